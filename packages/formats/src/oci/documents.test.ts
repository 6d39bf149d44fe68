import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { parseImageConfig } from "./config.ts";
import { OciError, type OciErrorCode } from "./errors.ts";
import { OCI_LIMITS } from "./limits.ts";
import { type ImageIndex, parseImageDocument, parseLayoutMarker, selectManifest } from "./manifest.ts";
import { layerEncoding, MEDIA_TYPES, sniffLayerEncoding } from "./media-types.ts";
import { selectPlatform } from "./platform.ts";

const bytesOf = (value: unknown): Uint8Array => Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
const digest = (letter: string): string => `sha256:${letter.repeat(64)}`;
const descriptor = (letter: string, more: object = {}): object => ({
  mediaType: MEDIA_TYPES.manifest,
  digest: digest(letter),
  size: 10,
  ...more,
});
const refused = (code: OciErrorCode, run: () => unknown, message = /./): void =>
  assert.throws(run, (error) => error instanceof OciError && error.code === code && message.test(error.message));

const index = (...manifests: readonly object[]): ImageIndex => {
  const document = parseImageDocument(bytesOf({ schemaVersion: 2, manifests }), null, "index");
  assert.ok(document.kind === "index");
  return document;
};

const platform = (architecture: string, variant?: string): object => ({ platform: { os: "linux", architecture, variant } });
const AMD64 = { os: "linux", architecture: "amd64", variant: "" };
const ARM64 = { os: "linux", architecture: "arm64", variant: "v8" };
const REF = "org.opencontainers.image.ref.name";

suite("image documents", () => {
  test("a manifest and an index are told apart by their fields, docker's too", () => {
    const config = descriptor("c", { mediaType: MEDIA_TYPES.dockerConfig });
    const manifest = { schemaVersion: 2, mediaType: MEDIA_TYPES.dockerManifest, config, layers: [descriptor("a")] };
    const parsed = parseImageDocument(bytesOf(manifest), MEDIA_TYPES.dockerManifest, "it");
    assert.ok(parsed.kind === "manifest");
    assert.deepEqual([parsed.config.digest, parsed.layers.map((one) => one.size)], [digest("c"), [10]]);
    assert.equal(index(descriptor("a"), descriptor("b")).manifests.length, 2);
  });

  test("a document that is both, neither, or not what its descriptor says is refused", () => {
    const parse =
      (value: unknown, mediaType: string | null = null) =>
      () =>
        parseImageDocument(bytesOf(value), mediaType, "it");
    refused("INVALID", parse({ schemaVersion: 2, manifests: [], layers: [], config: {} }), /both/);
    refused("INVALID", parse({ schemaVersion: 2 }), /neither/);
    refused("INVALID", parse({ schemaVersion: 2, manifests: [] }, MEDIA_TYPES.manifest), /index/);
    refused("INVALID", parse({ schemaVersion: 2, mediaType: MEDIA_TYPES.manifest, manifests: [] }));
    refused("INVALID", parse({ schemaVersion: 2, mediaType: MEDIA_TYPES.index, manifests: [] }, MEDIA_TYPES.dockerManifestList));
    refused("UNSUPPORTED", parse({ schemaVersion: 1, fsLayers: [] }), /schema 1/);
    refused("INVALID", parse([]));
    refused("INVALID", parse("{"));
    refused("INVALID", parse('"text"'));
  });

  test("hostile descriptors are refused with the field named", () => {
    const withDescriptor = (changes: object) => () => index(descriptor("a", changes));
    refused("INVALID", withDescriptor({ digest: "sha256:../../etc/passwd" }), /manifests\[0\]\.digest/);
    refused("INVALID", withDescriptor({ digest: digest("A") }));
    refused("UNSUPPORTED", withDescriptor({ digest: `sha512:${"a".repeat(128)}` }), /sha512/);
    for (const size of [-1, 1.5, 1e300, "10", null]) refused("INVALID", withDescriptor({ size }), /manifests\[0\]\.size/);
    refused("LIMIT", withDescriptor({ mediaType: "x".repeat(2000) }), /mediaType/);
    refused("INVALID", withDescriptor({ annotations: { a: 1 } }), /annotations\.a/);
  });

  test("depth, size and number are limited before they cost anything", () => {
    refused("LIMIT", () => parseImageConfig(bytesOf(`${"[".repeat(100_000)}${"]".repeat(100_000)}`)), /nested/);
    refused("LIMIT", () => parseImageConfig(new Uint8Array(OCI_LIMITS.documentBytes + 1)), /bytes/);
    const layers = Array.from({ length: OCI_LIMITS.layers + 1 }, () => 0);
    refused("LIMIT", () => parseImageDocument(bytesOf({ schemaVersion: 2, config: {}, layers }), null, "it"), /layers/);
    const text = JSON.stringify({ rootfs: { diff_ids: [] }, note: '\\"[{'.repeat(1000) });
    assert.deepEqual(parseImageConfig(bytesOf(text)).diffIds, [], "brackets in strings are no depth");
  });

  test("a config with nulls, and one with nothing, have empty fields", () => {
    const empty = parseImageConfig(bytesOf({ rootfs: { type: "layers", diff_ids: null }, config: { Env: null, Cmd: null } }));
    assert.deepEqual([empty.env, empty.cmd, empty.user, empty.platform.os], [[], [], "", ""]);
    refused("INVALID", () => parseImageConfig(bytesOf({})), /rootfs/);
    const config = {
      Entrypoint: ["/e"],
      Cmd: ["c"],
      User: "1:2",
      WorkingDir: "/w",
      StopSignal: "9",
      ExposedPorts: { "80/tcp": {} },
      Volumes: { "/v": {} },
    };
    const full = parseImageConfig(
      bytesOf({
        os: "linux",
        architecture: "arm64",
        variant: "v8",
        rootfs: { diff_ids: [digest("d")] },
        config: { ...config, Labels: { __proto__x: "y" } },
      }),
    );
    assert.deepEqual(
      [full.entrypoint, full.exposedPorts, full.volumes, full.labels, full.platform],
      [["/e"], ["80/tcp"], ["/v"], { __proto__x: "y" }, ARM64],
    );
  });

  test("a label cannot reach a prototype", () => {
    const { labels } = parseImageConfig(bytesOf('{"rootfs":{},"config":{"Labels":{"__proto__":"x"}}}'));
    assert.equal(Object.getPrototypeOf(labels), Object.prototype);
    assert.equal(Object.hasOwn(labels, "__proto__"), true);
  });

  test("only layouts of version 1 are read", () => {
    parseLayoutMarker(bytesOf({ imageLayoutVersion: "1.0.0" }));
    refused("UNSUPPORTED", () => parseLayoutMarker(bytesOf({ imageLayoutVersion: "2.0.0" })));
  });

  test("no bytes make a parser do anything but answer or throw its own error", () => {
    const document = fc.oneof(
      fc.json().map((text) => bytesOf(text)),
      fc.uint8Array(),
    );
    fc.assert(
      fc.property(document, (bytes) => {
        for (const parse of [() => parseImageDocument(bytes, null, "it"), () => parseImageConfig(bytes)]) {
          try {
            parse();
          } catch (error) {
            assert.ok(error instanceof OciError, String(error));
          }
        }
      }),
      { numRuns: 2000 },
    );
  });
});

suite("choosing from an index", () => {
  const digestFor = (wanted: typeof AMD64, ...entries: readonly object[]): string =>
    selectPlatform(index(...entries).manifests, wanted).digest;

  test("the platform's own entry is taken, whatever its place", () => {
    const unknown = descriptor("e", { platform: { os: "unknown", architecture: "unknown" } });
    const entries = [
      unknown,
      descriptor("a", platform("arm64", "v8")),
      descriptor("b", platform("amd64")),
      descriptor("c", platform("arm", "v7")),
    ];
    assert.equal(digestFor(AMD64, ...entries), digest("b"));
    assert.equal(digestFor(ARM64, ...entries), digest("a"));
    assert.equal(digestFor({ os: "linux", architecture: "arm", variant: "v7" }, ...entries), digest("c"));
  });

  test("the plain variant is preferred to a newer one, and arm64 is v8", () => {
    assert.equal(digestFor(AMD64, descriptor("a", platform("amd64", "v3")), descriptor("b", platform("amd64"))), digest("b"));
    assert.equal(digestFor(ARM64, descriptor("a", platform("arm64"))), digest("a"));
    refused("PLATFORM", () => digestFor({ os: "linux", architecture: "arm", variant: "v6" }, descriptor("a", platform("arm", "v7"))));
  });

  test("what is not there is told with what is", () => {
    refused(
      "PLATFORM",
      () => digestFor(AMD64, descriptor("a", platform("arm64", "v8")), descriptor("b", platform("s390x"))),
      /linux\/amd64.*linux\/arm64\/v8, linux\/s390x/,
    );
    refused("PLATFORM", () => digestFor(AMD64));
    assert.equal(digestFor(AMD64, descriptor("a")), digest("a"), "a single entry without a platform is for any");
  });

  test("a tag picks its entry, and without one the choice must be clear", () => {
    const tagged = (letter: string, tag: string, more: object = {}): object => descriptor(letter, { annotations: { [REF]: tag }, ...more });
    const layout = index(tagged("a", "one"), tagged("b", "two"));
    assert.equal(selectManifest(layout, { tag: "two", platform: AMD64 }).digest, digest("b"));
    refused("TAG", () => selectManifest(layout, { tag: "three", platform: AMD64 }), /one, two/);
    refused("TAG", () => selectManifest(layout, { tag: null, platform: AMD64 }), /one, two/);
    assert.equal(selectManifest(index(tagged("a", "one")), { tag: null, platform: AMD64 }).digest, digest("a"));
    const multi = index(tagged("a", "x", platform("arm64")), tagged("b", "x", platform("amd64")));
    assert.equal(selectManifest(multi, { tag: "x", platform: AMD64 }).digest, digest("b"));
  });
});

suite("layers", () => {
  test("every media type of a file system is known, and no other", () => {
    const cases: Readonly<Record<string, string>> = {
      "application/vnd.oci.image.layer.v1.tar": "tar",
      "application/vnd.oci.image.layer.v1.tar+gzip": "tar+gzip",
      "application/vnd.oci.image.layer.v1.tar+zstd": "tar+zstd",
      "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "tar+gzip",
      "application/vnd.docker.image.rootfs.diff.tar.gzip": "tar+gzip",
      "application/vnd.docker.image.rootfs.diff.tar": "tar",
      "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": "tar+gzip",
    };
    for (const [mediaType, encoding] of Object.entries(cases)) assert.equal(layerEncoding(mediaType), encoding);
    for (const mediaType of [
      "",
      "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
      "application/vnd.oci.empty.v1+json",
      "constructor",
    ]) {
      refused("UNSUPPORTED", () => layerEncoding(mediaType));
    }
  });

  test("the first bytes say how a blob is packed", () => {
    assert.equal(sniffLayerEncoding(Uint8Array.from([0x1f, 0x8b, 8])), "tar+gzip");
    assert.equal(sniffLayerEncoding(Uint8Array.from([0x28, 0xb5, 0x2f, 0xfd])), "tar+zstd");
    assert.equal(sniffLayerEncoding(Uint8Array.from([0x50, 0x2a, 0x4d, 0x18])), "tar+zstd");
    assert.equal(sniffLayerEncoding(Buffer.from("./etc/")), "tar");
    assert.equal(sniffLayerEncoding(new Uint8Array()), "tar");
  });
});
