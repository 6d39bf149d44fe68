import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { suite, test } from "node:test";
import { gzipSync } from "node:zlib";
import { MEDIA_TYPES } from "@kiln/formats/oci";
import { createImage, digestOf } from "./testing/pulling.ts";
import { always, assertFails, assertRecovers, isBlob, isManifest, REPOSITORY, type Scene, withScene } from "./testing/scene.ts";
import { type Asked, refusal, type Reply, ScriptedRegistry, type Script } from "./testing/scripted-registry.ts";

const IMAGE = createImage([randomBytes(5000)]);
const honest: Script = (_asked, reply) => reply;

const bytesOf = (value: unknown): Buffer => Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
const AMD64 = { os: "linux", architecture: "amd64" };
const entry = (bytes: Uint8Array, more: object = {}): object => ({
  mediaType: MEDIA_TYPES.manifest,
  digest: digestOf(bytes),
  size: bytes.length,
  ...more,
});
const indexOf = (...manifests: readonly object[]): Buffer => bytesOf({ schemaVersion: 2, mediaType: MEDIA_TYPES.index, manifests });

/** Fails as expected, and the image that was there before is pulled from there afterwards. */
const assertBad = async (scene: Scene, code: string, pattern: RegExp): Promise<void> => {
  await assertFails(scene, scene.pull(), { code, pattern });
  for (const digest of await scene.puller.stored()) await scene.puller.content.remove(digest);
  scene.registry.serve(REPOSITORY, "v1", IMAGE);
  await assertRecovers(scene, IMAGE);
};

suite("manifests that are not what they should be", { concurrency: true }, () => {
  const layer = entry(randomBytes(1), { mediaType: MEDIA_TYPES.layerTar });
  const config = entry(IMAGE.config, { mediaType: MEDIA_TYPES.config });
  const manifest = (more: object): Buffer => bytesOf({ schemaVersion: 2, mediaType: MEDIA_TYPES.manifest, config, layers: [], ...more });
  const documents: readonly (readonly [string, Partial<Reply>, string, RegExp])[] = [
    ["no JSON", { body: bytesOf("{") }, "IMAGE_INVALID", /no usable manifest/],
    ["nothing", { body: Buffer.alloc(0) }, "IMAGE_INVALID", /no usable manifest/],
    ["JSON of another kind", { body: bytesOf([1]) }, "IMAGE_INVALID", /no usable manifest/],
    ["nested deeply", { body: bytesOf("[".repeat(100_000)) }, "IMAGE_INVALID", /nested/],
    ["5,000 layers", { body: manifest({ layers: Array.from({ length: 5000 }, () => layer) }) }, "IMAGE_INVALID", /5000/],
    ["larger than a manifest may be", { body: Buffer.alloc(4 * 2 ** 20 + 1, " ") }, "REGISTRY_FAILED", /has 4194305 bytes/],
    [
      "larger, and does not say so",
      { body: Buffer.alloc(5 * 2 ** 20, " "), isChunked: true },
      "REGISTRY_FAILED",
      /more than the 4194304 bytes/,
    ],
    ["an index under a manifest's type", { body: indexOf() }, "IMAGE_INVALID", /has the fields of an index/],
    ["both an index and a manifest", { body: manifest({ manifests: [] }) }, "IMAGE_INVALID", /both/],
    [
      "docker's schema 1",
      {
        headers: { "content-type": "application/vnd.docker.distribution.manifest.v1+prettyjws" },
        body: bytesOf({ schemaVersion: 1, fsLayers: [] }),
      },
      "IMAGE_INVALID",
      /schema 1/,
    ],
    ["a type of its own", { headers: { "content-type": "application/x-tar" } }, "IMAGE_INVALID", /application\/x-tar/],
    [
      "a page for people",
      { headers: { "content-type": "text/html; charset=utf-8" }, body: bytesOf("<h1>log in to the Wi-Fi</h1>") },
      "REGISTRY_FAILED",
      /page for people/,
    ],
    [
      "packed, unasked",
      { headers: { "content-encoding": "gzip" }, body: gzipSync(Buffer.alloc(10 * 2 ** 20)) },
      "REGISTRY_FAILED",
      /the encoding "gzip"/,
    ],
    [
      "under the digest of something else",
      { headers: { "docker-content-digest": digestOf(Buffer.from("x")) } },
      "CONTENT_DIGEST_MISMATCH",
      /says it sent/,
    ],
    [
      "an artifact",
      { body: manifest({ config: { ...config, mediaType: "application/vnd.oci.empty.v1+json" } }) },
      "IMAGE_INVALID",
      /artifact/,
    ],
    [
      "an encrypted layer",
      { body: manifest({ layers: [{ ...layer, mediaType: `${MEDIA_TYPES.layerTar}+encrypted` }] }) },
      "IMAGE_INVALID",
      /encrypted/,
    ],
    [
      "a digest that is a path",
      { body: manifest({ layers: [{ ...layer, digest: "sha256:../../etc/passwd" }] }) },
      "IMAGE_INVALID",
      /digest/,
    ],
    ["control characters", { body: bytesOf('{"schemaVersion":2,"mediaType":"\\u001b[31m"}') }, "IMAGE_INVALID", /no usable manifest/],
  ];
  for (const [name, change, code, pattern] of documents) {
    test(`${name}: a typed error, and nothing is stored`, () =>
      withScene(
        IMAGE,
        always(isManifest, (reply) => ({ ...reply, headers: { "content-type": MEDIA_TYPES.manifest }, ...change })),
        async (scene) => {
          await assertFails(scene, scene.pull(), { code, pattern });
          const kept = new Set(await scene.puller.stored());
          kept.delete(digestOf(change.body ?? IMAGE.manifest));
          assert.deepEqual(kept, new Set(), "nothing but the document itself, where that is one");
          for (const digest of await scene.puller.stored()) await scene.puller.content.remove(digest);
          await assertRecovers(scene, IMAGE);
        },
      ));
  }

  for (const type of [
    "application/json",
    "application/octet-stream",
    "text/plain; charset=utf-8",
    "",
    `${MEDIA_TYPES.manifest.toUpperCase()} ; x=y`,
  ]) {
    test(`a server of files that says ${JSON.stringify(type)} is believed in what the document says of itself`, () =>
      withScene(
        IMAGE,
        always(isManifest, (reply) => ({ ...reply, headers: { "content-type": type } })),
        async ({ pull }) => {
          await pull();
        },
      ));
  }
});

suite("what an answer's head may say", { concurrency: true }, () => {
  const heads: readonly (readonly [string, string, string])[] = [
    ["no HTTP", "REGISTRY_FAILED", "SSH-2.0-OpenSSH_9.2\r\n"],
    ["two lengths", "REGISTRY_UNREACHABLE", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!"],
    ["a length and chunks", "REGISTRY_UNREACHABLE", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["a header without end", "REGISTRY_FAILED", `HTTP/1.1 200 OK\r\nx: ${"x".repeat(100_000)}\r\n\r\n`],
    ["a name with a space", "REGISTRY_FAILED", "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n"],
    ["a status of letters", "REGISTRY_FAILED", "HTTP/1.1 OK\r\n\r\n"],
  ];
  for (const [name, code, raw] of heads) {
    test(`${name}: a typed error`, () =>
      withScene(
        IMAGE,
        always(isManifest, () => ({ status: 200, raw })),
        async (scene) => {
          await assertFails(scene, scene.pull(), { code, pattern: /does not speak HTTP as it should|ended the connection/ });
          await assertRecovers(scene, IMAGE);
        },
      ));
  }

  test("a blob of another encoding is the bytes that came, whatever they are called", () =>
    withScene(
      IMAGE,
      always(isBlob, (reply) => ({ ...reply, headers: { "content-encoding": "gzip" } })),
      async ({ pull }) => {
        await pull();
      },
    ));
});

test("addresses that a layer brings with it are not asked", () =>
  withScene(IMAGE, honest, async ({ registry, puller, reference }) => {
    await using foreign = await ScriptedRegistry.start();
    const layer = randomBytes(100);
    const entries = JSON.parse(IMAGE.manifest.toString()) as { layers: object[]; config: object };
    const urls = [`${foreign.url}/layer`];
    const mediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    const bytes = bytesOf({ ...entries, layers: [entry(layer, { mediaType, urls })] });
    registry.serveManifest(REPOSITORY, "v1", { bytes });
    await assert.rejects(puller.pull(reference), { code: "REGISTRY_FAILED", message: /BLOB_UNKNOWN/ });
    assert.deepEqual(foreign.asked, []);
  }));

suite("an image that is not there", { concurrency: true }, () => {
  test("404 is IMAGE_NOT_FOUND, with the registry's words on one line, after one request", () =>
    withScene(IMAGE, honest, async (scene) => {
      const { registry, puller } = scene;
      const expected = { code: "IMAGE_NOT_FOUND", pattern: /MANIFEST_UNKNOWN: it is unknown here/ };
      const error = await assertFails(scene, puller.pull(`${registry.host}/${REPOSITORY}:v1-absent`), expected);
      assert.equal(error.object, `${registry.host}/${REPOSITORY}:v1-absent`);
      assert.equal(registry.asked.length, 1);
      await assertFails(scene, puller.pull(`${registry.host}/${REPOSITORY}@${digestOf(Buffer.from("x"))}`), expected);
      await assertFails(scene, puller.resolve(`${registry.host}/${REPOSITORY}:v1-absent`), {
        code: "IMAGE_NOT_FOUND",
        pattern: /is not there/,
      });
      registry.script = () => refusal(404, "\u001b[2J", `\r\n${"y".repeat(100_000)}`);
      const loud = await assertFails(scene, scene.pull(), { code: "IMAGE_NOT_FOUND", pattern: /\[2J/ });
      assert.ok(loud.message.length < 1000);
    }));

  test("a layer that the registry has lost is the registry's failure", () =>
    withScene(
      IMAGE,
      always(isBlob, () => refusal(404, "BLOB_UNKNOWN", "gone")),
      async (scene) => {
        await assertFails(scene, scene.pull(), { code: "REGISTRY_FAILED", pattern: /answered 404: BLOB_UNKNOWN: gone/ });
        await assertRecovers(scene, IMAGE);
      },
    ));
});

suite("indexes", { concurrency: true }, () => {
  const serve = (run: (scene: Scene) => Promise<void>): Promise<void> => withScene(IMAGE, honest, run);
  const serveIndex = ({ registry }: Scene, bytes: Buffer): unknown =>
    registry.serveManifest(REPOSITORY, "v1", { bytes, mediaType: MEDIA_TYPES.index });

  test("the manifest of the platform is fetched, and no other", () =>
    serve(async (scene) => {
      const other = createImage([randomBytes(10)]);
      scene.registry.serve(REPOSITORY, "other", other);
      const index = indexOf(
        entry(other.manifest, { platform: { os: "linux", architecture: "arm64" } }),
        entry(IMAGE.manifest, { platform: AMD64 }),
      );
      serveIndex(scene, index);
      const { root, image } = await scene.puller.pull(scene.reference);
      assert.equal(root, digestOf(index));
      assert.equal(image.manifestDigest, IMAGE.digest);
      assert.deepEqual(new Set(await scene.puller.stored()), new Set([...IMAGE.blobs.keys(), digestOf(index)]));
      assert.equal(await scene.puller.resolve(scene.reference), digestOf(index));
    }));

  test("an index without the platform says what there is", () =>
    serve(async (scene) => {
      serveIndex(
        scene,
        indexOf(
          entry(IMAGE.manifest, { platform: { os: "linux", architecture: "s390x" } }),
          entry(IMAGE.manifest, { platform: { os: "windows", architecture: "amd64" } }),
        ),
      );
      await assertBad(scene, "IMAGE_PLATFORM_MISSING", /linux\/s390x/);
    }));

  test("a chain of indexes that is too long ends, and so does one whose links lie about what follows", () =>
    serve(async (scene) => {
      let bytes = IMAGE.manifest;
      for (let depth = 0; depth < 8; depth += 1) {
        const next = indexOf(entry(bytes, { platform: AMD64, ...(depth === 0 ? {} : { mediaType: MEDIA_TYPES.index }) }));
        serveIndex(scene, next);
        bytes = next;
      }
      await assertBad(scene, "IMAGE_INVALID", /nested deeper than/);
    }));

  test("an index that names its own tag's digest cannot be made; one that is served for whatever is asked is found out", () =>
    serve(async (scene) => {
      const index = indexOf(entry(IMAGE.manifest, { platform: AMD64 }));
      scene.registry.script = (asked: Asked, reply) =>
        isManifest(asked) ? { ...reply, headers: { "content-type": MEDIA_TYPES.index }, body: index } : reply;
      await assertBad(scene, "CONTENT_DIGEST_MISMATCH", new RegExp(`as ${IMAGE.digest} is ${digestOf(index)}`));
    }));

  test("an entry that lies about the size of its manifest", () =>
    serve(async (scene) => {
      serveIndex(scene, indexOf(entry(IMAGE.manifest, { platform: AMD64, size: 7 })));
      await assertBad(scene, "CONTENT_SIZE_MISMATCH", /more than 7 bytes/);
    }));
});

suite("asking what a tag leads to", { concurrency: true }, () => {
  test("takes one request without a body, where the registry says the digest", () =>
    withScene(IMAGE, honest, async ({ registry, puller, reference }) => {
      assert.equal(await puller.resolve(reference), IMAGE.digest);
      assert.deepEqual(registry.lines, [`HEAD /v2/${REPOSITORY}/manifests/v1`]);
      for (const type of Object.values(MEDIA_TYPES).filter((one) => /manifest|index/.test(one)))
        assert.ok(registry.asked[0]?.headers.accept?.includes(type), type);
    }));

  test("takes the manifest where it does not, and only once while the entity tag stays", () =>
    withScene(
      IMAGE,
      (asked, reply) => {
        const headers = { "content-type": MEDIA_TYPES.manifest, etag: '"1"' };
        if (asked.headers["if-none-match"] === '"1"') return { status: 304, headers };
        return { ...reply, headers: asked.method === "HEAD" ? { "content-type": MEDIA_TYPES.manifest } : headers };
      },
      async ({ registry, puller, reference }) => {
        assert.equal(await puller.resolve(reference), IMAGE.digest);
        assert.equal(await puller.resolve(reference), IMAGE.digest);
        assert.deepEqual(
          registry.asked.map(({ method, headers }) => [method, headers["if-none-match"] ?? null]),
          [
            ["HEAD", null],
            ["GET", null],
            ["HEAD", null],
            ["GET", '"1"'],
          ],
        );
        const script = registry.script;
        registry.script = async (asked, reply) => ({
          ...(await script(asked, reply)),
          ...(asked.method === "HEAD" ? { headers: { etag: '"1"' } } : {}),
        });
        registry.asked = [];
        assert.equal(await puller.resolve(reference), IMAGE.digest);
        assert.deepEqual(registry.lines, [`HEAD /v2/${REPOSITORY}/manifests/v1`]);
      },
    ));

  test("a page for people is no manifest", () =>
    withScene(
      IMAGE,
      () => ({ status: 200, headers: { "content-type": "text/html" }, body: Buffer.from("<h1>Wi-Fi</h1>") }),
      async (scene) => {
        await assertFails(scene, scene.puller.resolve(scene.reference), { code: "REGISTRY_FAILED", pattern: /page for people/ });
      },
    ));

  test("works with a server that does not know HEAD, and with a digest of another algorithm", () =>
    withScene(
      IMAGE,
      (asked, reply) =>
        asked.method === "HEAD" ? { status: 405 } : { ...reply, headers: { "docker-content-digest": `sha512:${"0".repeat(128)}` } },
      async ({ puller, reference }) => {
        assert.equal(await puller.resolve(reference), IMAGE.digest);
        assert.deepEqual(await puller.stored(), [], "nothing is stored by asking");
      },
    ));
});
