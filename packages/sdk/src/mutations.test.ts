import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { ROUTES } from "@kiln/protocol/routes";
import { Kiln } from "./kiln.ts";
import { UnixTransport } from "./node/unix-transport.ts";
import { anImage, anOperation, StubDaemon } from "./testing/index.ts";

const PATTERNS = ROUTES.map(({ method, path }) => ({
  name: `${method} ${path}`,
  method: method.toUpperCase(),
  pattern: new RegExp(`^${path.replace(/:\w+\{\.\+\}/g, ".+").replace(/:\w+/g, "[^/]+")}$`),
}));

const nameOf = (method: string, path: string): string =>
  PATTERNS.find((one) => one.method === method && one.pattern.test(path))?.name ?? `${method} ${path}`;

test("every mutation of the API is one of the SDK's, and carries an idempotency key of its own", async () => {
  await using stub = await StubDaemon.listen();
  const index = Buffer.from("{}");
  const digest = `sha256:${createHash("sha256").update(index).digest("hex")}`;
  const file = {
    sizeBytes: index.length,
    open: async function* () {
      yield index;
    },
  };
  let imports = 0;
  stub.on("POST", /./, () => ({ json: anOperation() }));
  stub.on("POST", "/v1/bundles", () => ({
    json: { reference: "a", platform: "linux/amd64", config: {}, rootfs: { digest, sizeBytes: 2 } },
  }));
  stub.on("DELETE", /./, () => ({ json: anOperation() }));
  stub.on("PUT", /./, () => ({ json: {}, status: 201 }));
  stub.on("POST", "/v1/images/import", () =>
    imports++ === 0 ? { json: { missing: [{ digest, size: 2 }], image: null } } : { json: { missing: [], image: anImage() } },
  );
  using kiln = new Kiln(new UnixTransport({ socketPath: stub.socketPath }));
  await kiln.daemon.stop();
  await kiln.prune();
  await kiln.kernels.warm();
  await kiln.images.pull("a");
  await kiln.images.tag("a", "b");
  await kiln.images.promote("web", { name: "b" });
  await kiln.images.customize("a", { name: "b", run: ["true"] });
  await kiln.images.register(file, { name: "b" });
  await kiln.images.import(file);
  await kiln.images.verify("a");
  await kiln.images.rebuild("a");
  await kiln.scrub();
  await kiln.images.remove("a");
  await kiln.images.importLayout({ reference: "oci:a", tag: null, index, readBlob: () => assert.fail("only the index is missing") });
  await kiln.vms.create({ image: "a" });
  await kiln.vms.start("web");
  await kiln.vms.stop("web");
  await kiln.vms.kill("web");
  await kiln.vms.addPort("web", { guestPort: 80 });
  await kiln.vms.removePort("web", { guestPort: 80 });
  await kiln.vms.remove("web");
  await kiln.operations.cancel("op_1");
  assert.deepEqual(
    [...new Set(stub.requests.map(({ method, path }) => nameOf(method, path)))].sort(),
    ROUTES.filter(({ method }) => method !== "get")
      .map(({ method, path }) => `${method} ${path}`)
      .sort(),
  );
  const keys = stub.requests.map(({ headers }) => String(headers["idempotency-key"]));
  for (const key of keys) assert.match(key, /^[0-9a-f]{32}$/);
  assert.equal(new Set(keys).size, keys.length);
});
