import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { KilnError } from "@kiln/protocol/errors";
import { Kiln } from "../kiln.ts";
import { UnixTransport } from "../node/unix-transport.ts";
import { anImage, StubDaemon } from "../testing/index.ts";

const clientOf = (stub: StubDaemon): Kiln => new Kiln(new UnixTransport({ socketPath: stub.socketPath }));
const digestOf = (bytes: Uint8Array): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

const index = Buffer.from('{"manifests":[]}');
const manifest = Buffer.from("the manifest");
const layer = Buffer.alloc(3 * 2 ** 20, 7);

/** A daemon that asks for what it lacks, level by level. */
const importing = (stub: StubDaemon): Map<string, Buffer> => {
  const content = new Map<string, Buffer>();
  stub.on("PUT", /^\/v1\/content\/(.+)$/, ({ groups: [digest = ""], body }) => {
    if (digestOf(body) !== digest) return { problem: "CONTENT_DIGEST_MISMATCH", detail: digest };
    content.set(digest, body);
    return { json: {}, status: 201 };
  });
  stub.on("POST", "/v1/images/import", ({ body }) => {
    const { root } = JSON.parse(body.toString()) as { root: string };
    const wanted = [
      [{ digest: root, size: null }],
      [{ digest: digestOf(manifest), size: manifest.length }],
      [{ digest: digestOf(layer), size: layer.length }],
    ];
    const missing = wanted.find((level) => level.some((blob) => !content.has(blob.digest)));
    return { json: missing === undefined ? { missing: [], image: anImage({ reference: "oci:./x:1" }) } : { missing, image: null } };
  });
  return content;
};

const blobs = new Map([manifest, layer].map((bytes) => [digestOf(bytes), bytes]));

const readBlob = async (digest: string) => {
  const bytes = blobs.get(digest) ?? assert.fail(digest);
  return {
    sizeBytes: bytes.length,
    open: async function* pieces() {
      for (let at = 0; at < bytes.length; at += 2 ** 20) yield bytes.subarray(at, at + 2 ** 20);
    },
  };
};

test("an import sends what is missing until the image is whole, and nothing twice", async () => {
  await using stub = await StubDaemon.listen();
  const content = importing(stub);
  const progress: number[] = [];
  const layout = {
    reference: "oci:./x:1",
    tag: "1",
    index,
    readBlob,
    onProgress: ({ doneBytes }: { doneBytes: number }) => void progress.push(doneBytes),
  };
  const first = await clientOf(stub).images.importLayout(layout);
  assert.equal(first.image.reference, "oci:./x:1");
  assert.equal(first.sentBytes, index.length + manifest.length + layer.length);
  assert.equal(progress.at(-1), first.sentBytes);
  assert.deepEqual([...content.keys()], [digestOf(index), digestOf(manifest), digestOf(layer)]);
  assert.equal((await clientOf(stub).images.importLayout(layout)).sentBytes, 0);
});

test("a blob whose connection broke is sent again from its beginning", async () => {
  await using stub = await StubDaemon.listen();
  importing(stub);
  let breaks = 1;
  const before = stub.requests.length;
  stub.on("PUT", `/v1/content/${digestOf(layer)}`, ({ body }) =>
    breaks-- > 0 ? "break" : digestOf(body) === digestOf(layer) ? { problem: "DISK_FULL", detail: "full" } : { json: {} },
  );
  await assert.rejects(
    clientOf(stub).images.importLayout({ reference: "oci:x", tag: null, index, readBlob }),
    (error) => error instanceof KilnError && error.code === "DISK_FULL",
  );
  assert.equal(before, 0);
  assert.equal(stub.calls("PUT", `/v1/content/${digestOf(layer)}`).length, 2);
});

test("a daemon that forgets what it was sent does not make the client loop", async () => {
  await using stub = await StubDaemon.listen();
  stub.on("PUT", /^\/v1\/content\//, () => ({ json: {}, status: 201 }));
  stub.on("POST", "/v1/images/import", () => ({ json: { missing: [{ digest: digestOf(manifest), size: 1 }], image: null } }));
  await assert.rejects(
    clientOf(stub).images.importLayout({ reference: "oci:x", tag: null, index, readBlob }),
    (error) => error instanceof KilnError && error.code === "IMAGE_CONTENT_MISSING",
  );
});

test("a daemon that asks for something else than a digest is sent nothing", async () => {
  await using stub = await StubDaemon.listen();
  stub.on("POST", "/v1/images/import", () => ({ json: { missing: [{ digest: "sha256:../../../etc/passwd", size: 1 }], image: null } }));
  const asked: string[] = [];
  const spy = (digest: string) => {
    asked.push(digest);
    return readBlob(digest);
  };
  await assert.rejects(clientOf(stub).images.importLayout({ reference: "oci:x", tag: null, index, readBlob: spy }), KilnError);
  assert.deepEqual(asked, []);
});
