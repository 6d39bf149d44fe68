import assert from "node:assert/strict";
import { test } from "node:test";
import { REGISTRY_AUTH_HEADER, registryCredentials } from "@kiln/protocol";
import { Kiln } from "../kiln.ts";
import { UnixTransport } from "../node/unix-transport.ts";
import { anImage, anOperation, listOf, StubDaemon } from "../testing/index.ts";

const clientOf = (stub: StubDaemon): Kiln => new Kiln(new UnixTransport({ socketPath: stub.socketPath }));

const credentials = { "registry.example:5000": { username: "ann", password: "pä:ss>>>???" } };

test("credentials travel in a header beside the request, and never in it", async () => {
  await using stub = await StubDaemon.listen();
  stub.on("POST", /^\/v1\/(images\/pull|vms)$/, () => ({ json: anOperation(), status: 202 }));
  using kiln = clientOf(stub);
  await kiln.images.pull("registry.example:5000/a", { platform: "linux/arm64", plainHttp: true, credentials });
  await kiln.vms.create({ image: "registry.example:5000/a" }, { credentials });
  assert.equal(stub.requests.length, 2);
  for (const request of stub.requests) {
    const header = String(request.headers[REGISTRY_AUTH_HEADER]);
    assert.match(header, /^[A-Za-z0-9_-]+$/);
    assert.deepEqual(registryCredentials.parse(JSON.parse(Buffer.from(header, "base64url").toString())), credentials);
    assert(!request.body.includes("ann"));
  }
  assert.deepEqual(JSON.parse(stub.requests[0]?.body.toString() ?? ""), {
    reference: "registry.example:5000/a",
    pull: "always",
    platform: "linux/arm64",
    plainHttp: true,
  });
});

test("without credentials there is no header", async () => {
  await using stub = await StubDaemon.listen();
  stub.on("POST", "/v1/images/pull", () => ({ json: anOperation(), status: 202 }));
  using kiln = clientOf(stub);
  await kiln.images.pull("alpine");
  await kiln.images.pull("alpine", { credentials: {} });
  for (const request of stub.requests) assert.equal(request.headers[REGISTRY_AUTH_HEADER], undefined);
});

test("an image is found, named again and read by whatever its name holds", async () => {
  await using stub = await StubDaemon.listen();
  const digest = `sha256:${"a".repeat(64)}`;
  stub.on("GET", /^\/v1\/images\/(.+)$/, ({ groups }) => ({ json: groups }));
  stub.on("POST", "/v1/images/tag", ({ body }) => ({ json: anImage({ reference: body.toString() }) }));
  stub.on("GET", /^\/v1\/content\/(.+)$/, ({ groups: [name = ""] }) => ({ bytes: Buffer.from(name) }));
  stub.on("POST", "/v1/prune", ({ body }) => ({ json: JSON.parse(body.toString()) as unknown }));
  using kiln = clientOf(stub);
  const name = "host:5000/a/b@sha256:00?x#y%z";
  assert.deepEqual(await kiln.images.inspect(name), [name]);
  assert.equal((await kiln.images.tag("a", "b:1")).reference, '{"source":"a","target":"b:1"}');
  assert.equal(Buffer.concat(await listOf(await kiln.images.readBlob(digest))).toString(), digest);
  assert.deepEqual(await kiln.prune({ images: true }), { images: true });
});
