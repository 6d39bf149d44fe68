import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { parseImageDocument } from "@kiln/formats/oci";
import { KilnError, type ErrorCode } from "@kiln/protocol/errors";
import { buildTar, tarHeader, type TarSpec } from "../../../../formats/src/tar/tar-writer.fixture.ts";
import { digestOf, ImageBlobs } from "../../testing/image-files.ts";
import type { ImageArchive } from "./image-archive.ts";
import { openArchive, type OpenArchive } from "./open-archive.ts";

const signal = new AbortController().signal;

let root = "";
let count = 0;
before(async () => {
  root = await mkdtemp(join(tmpdir(), "kiln-archive-"));
});
after(() => rm(root, { recursive: true }));

/** Opens these bytes as a file `x.tar`, looks, and closes it. */
const opened = async <Result>(
  bytes: Uint8Array,
  look: (archive: ImageArchive) => Result | Promise<Result>,
  form: OpenArchive["form"] = null,
): Promise<Result> => {
  count += 1;
  const path = join(root, `${count}.tar`);
  await writeFile(path, bytes);
  await using stack = new AsyncDisposableStack();
  return await look(await openArchive({ source: { path }, name: "x.tar", form, temporaryDirectory: root, signal }, stack));
};

const contentOf = async (archive: ImageArchive, digest: string): Promise<Buffer> => {
  const blob = await archive.readBlob(digest);
  const chunks: Uint8Array[] = [];
  for await (const chunk of blob.open()) chunks.push(chunk);
  assert.equal(Buffer.concat(chunks).length, blob.sizeBytes);
  return Buffer.concat(chunks);
};

const refusedWith = (code: ErrorCode, words: RegExp) => (error: unknown) => {
  assert(error instanceof KilnError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, words);
  assert.match(error.message, /^x\.tar: /);
  return true;
};

const layer = buildTar([{ path: "a", content: "one" }]);
const other = buildTar([{ path: "b", content: "two" }]);
const configOf = (...layers: readonly Uint8Array[]): string =>
  JSON.stringify({ architecture: "amd64", os: "linux", rootfs: { type: "layers", diff_ids: layers.map(digestOf) } });
const config = configOf(layer, other);

/** What `docker save` writes, with what differs in one test. */
const dockerSave = (
  changes: { readonly manifest?: unknown; readonly members?: readonly TarSpec[]; readonly before?: readonly TarSpec[] } = {},
): Buffer =>
  buildTar([
    ...(changes.before ?? []),
    ...(changes.members ?? [
      { path: "c.json", content: config },
      { path: "1/", type: "directory" },
      { path: "1/layer.tar", content: layer },
      { path: "2/layer.tar", content: other },
    ]),
    {
      path: "manifest.json",
      content: JSON.stringify(
        changes.manifest ?? [{ Config: "c.json", RepoTags: ["tool:1", "host:5/t"], Layers: ["1/layer.tar", "2/layer.tar"] }],
      ),
    },
  ]);

describe("an archive of docker's", () => {
  test("is images whose manifests are made, always the same", async () => {
    const [first, second] = [dockerSave(), dockerSave({ before: [{ path: "VERSION", content: "1.0" }] })];
    const roots = await Promise.all(
      [first, second].map((bytes) =>
        opened(bytes, async (archive) => {
          const [image, ...more] = archive.images;
          assert(image !== undefined && more.length === 0);
          assert.deepEqual(image.names, ["docker.io/library/tool:1", "host:5/t:latest"]);
          const manifestBytes = await image.readRoot();
          const manifest = parseImageDocument(manifestBytes, null, "it");
          assert(manifest.kind === "manifest");
          assert.deepEqual(
            manifest.layers.map((one) => one.digest),
            [digestOf(layer), digestOf(other)],
          );
          assert.deepEqual(await contentOf(archive, digestOf(layer)), layer);
          assert.deepEqual(await contentOf(archive, digestOf(other)), other);
          assert.equal((await contentOf(archive, manifest.config.digest)).toString(), config);
          return Buffer.from(manifestBytes).toString();
        }),
      ),
    );
    assert.equal(roots[0], roots[1]);
  });
  test("may have layers that are links to others, soft or hard", async () => {
    const members: TarSpec[] = [
      { path: "./c.json", content: configOf(layer, layer, layer) },
      { path: "./1/layer.tar", content: layer },
      { path: "2/layer.tar", type: "symlink", link: "../1/layer.tar" },
      { path: "3/layer.tar", type: "hardlink", link: "./2/layer.tar" },
    ];
    const manifest = [{ Config: "c.json", RepoTags: null, Layers: ["1/layer.tar", "2/layer.tar", "3/layer.tar"] }];
    await opened(dockerSave({ members, manifest }), async (archive) => {
      assert.deepEqual(
        archive.images.map((image) => image.names),
        [[]],
      );
      assert.deepEqual(await contentOf(archive, digestOf(layer)), layer);
    });
  });
  test("may have packed layers, whose digests are their own", async () => {
    const packed = gzipSync(layer);
    const members = [
      { path: "c.json", content: configOf(layer) },
      { path: "l", content: packed },
    ];
    await opened(dockerSave({ members, manifest: [{ Config: "c.json", Layers: ["l"] }] }), async (archive) => {
      const manifest = parseImageDocument((await archive.images[0]?.readRoot()) ?? Buffer.alloc(0), null, "it");
      assert(manifest.kind === "manifest");
      assert.deepEqual(
        manifest.layers.map(({ digest, mediaType }) => [digest, mediaType]),
        [[digestOf(packed), "application/vnd.oci.image.layer.v1.tar+gzip"]],
      );
      assert.deepEqual(await contentOf(archive, digestOf(packed)), packed);
    });
  });
});

describe("an OCI archive", () => {
  const archiveOf = (made: ImageBlobs, manifests: readonly object[], more: readonly TarSpec[] = []): Buffer =>
    buildTar([
      { path: "blobs/sha256", type: "directory" },
      ...[...made.blobs].map(([digest, content]) => ({ path: `blobs/sha256/${digest.slice(7)}`, content })),
      { path: "index.json", content: JSON.stringify({ schemaVersion: 2, manifests }) },
      { path: "oci-layout", content: '{"imageLayoutVersion":"1.0.0"}' },
      ...more,
    ]);
  const annotated = (descriptor: object, annotations: Readonly<Record<string, string>>) => ({ ...descriptor, annotations });
  const REF = "org.opencontainers.image.ref.name";
  const NAME = "io.containerd.image.name";

  test("names images by containerd's annotation, else by a tag that is a whole name", async () => {
    const made = new ImageBlobs();
    const images = ["a", "b", "c", "d"].map((text) => made.image({ tag: null, layers: [text] }));
    const [a = {}, b = {}, c = {}, d = {}] = images;
    const manifests = [
      annotated(a, { [NAME]: "docker.io/library/x:latest", [REF]: "latest" }),
      annotated(b, { [NAME]: "docker.io/library/y:latest", [REF]: "latest" }),
      annotated(c, { [REF]: "localhost/z:1" }),
      annotated(d, { [REF]: "1.0" }),
      { ...annotated(d, { "vnd.docker.reference.type": "attestation-manifest" }), platform: { os: "unknown", architecture: "unknown" } },
      { mediaType: "application/vnd.example", digest: digestOf("x"), size: 1 },
    ];
    await opened(archiveOf(made, manifests), async (archive) => {
      assert.deepEqual(
        archive.images.map(({ names, label }) => [...names, label]),
        [
          ["docker.io/library/x:latest", "docker.io/library/x:latest"],
          ["docker.io/library/y:latest", "docker.io/library/y:latest"],
          ["localhost/z:1", "localhost/z:1"],
          ["1.0"],
        ],
      );
      for (const [index, image] of archive.images.entries()) assert.equal(digestOf(await image.readRoot()), images[index]?.digest);
    });
  });
  test("one name for several platforms is one image", async () => {
    const made = new ImageBlobs();
    const platforms = ["amd64", "arm64"].map((architecture) => ({
      ...annotated(made.image({ tag: null, layers: [architecture], architecture }), { [NAME]: "docker.io/library/x:1" }),
      platform: { os: "linux", architecture },
    }));
    await opened(archiveOf(made, platforms), async ({ images }) => {
      assert.equal(images.length, 1);
      const index = parseImageDocument((await images[0]?.readRoot()) ?? Buffer.alloc(0), null, "it");
      assert(index.kind === "index");
      assert.deepEqual(
        index.manifests.map((one) => one.platform?.architecture),
        ["amd64", "arm64"],
      );
    });
  });
  test("is preferred to docker's list beside it, if it is whole", async () => {
    const made = new ImageBlobs();
    const image = made.image({ tag: null, layers: ["x"] });
    const manifest = JSON.parse(made.blobs.get(image.digest)?.toString() ?? "") as {
      config: { digest: string };
      layers: { digest: string }[];
    };
    const path = (digest = "") => `blobs/sha256/${digest.slice(7)}`;
    const list = [{ Config: path(manifest.config.digest), RepoTags: ["x:1"], Layers: [path(manifest.layers[0]?.digest)] }];
    const beside = [{ path: "manifest.json", content: JSON.stringify(list) }];
    const whole = archiveOf(made, [annotated(image, { [NAME]: "docker.io/library/x:1" })], beside);
    assert.equal(await opened(whole, ({ form }) => form), "oci");
    assert.equal(await opened(whole, ({ form }) => form, "docker"), "oci");
    const index = {
      schemaVersion: 2,
      manifests: [
        { ...image, platform: { os: "linux", architecture: "amd64" } },
        { ...image, digest: digestOf("gone") },
      ],
    };
    const nested = made.put("application/vnd.oci.image.index.v1+json", JSON.stringify(index));
    assert.equal(await opened(archiveOf(made, [nested], beside), ({ form }) => form), "oci", "one platform is there");
    const broken = { ...image, digest: digestOf("gone") };
    assert.equal(await opened(archiveOf(made, [broken], beside), ({ form }) => form), "docker");
    assert.equal(await opened(archiveOf(made, [broken], beside), ({ form }) => form, "oci"), "oci", "who says so means it");
    made.blobs.set(image.digest, Buffer.from("{}"));
    assert.equal(await opened(archiveOf(made, [image], beside), ({ form }) => form), "docker", "damaged is not whole");
    const [damaged] = await opened(archiveOf(made, [image]), async (archive) =>
      Promise.allSettled(archive.images.map((one) => one.readRoot())),
    );
    assert(damaged?.status === "rejected" && refusedWith("IMAGE_INVALID", /is damaged/)(damaged.reason));
  });
  test("a blob that it lacks is named", async () => {
    await opened(archiveOf(new ImageBlobs(), []), async (archive) => {
      assert.deepEqual(archive.images, []);
      for (const digest of [digestOf("x"), "sha256:../../index.json", "", "../index.json"])
        await assert.rejects(archive.readBlob(digest), refusedWith("IMAGE_INVALID", /it lacks its blob/));
    });
  });
});

describe("a hostile or damaged archive is refused by what is wrong with it", () => {
  const entry = (path: string, more: Partial<TarSpec> = {}): TarSpec => ({ path, ...more });
  const one = (fields: object) => ({ manifest: [{ Config: "c.json", RepoTags: [], Layers: ["1/layer.tar", "2/layer.tar"], ...fields }] });
  const link = (target: string, type: "symlink" | "hardlink" = "symlink") =>
    dockerSave({ ...one({ Layers: ["l", "2/layer.tar"] }), before: [entry("l", { type, link: target })] });
  const table: readonly [string, Uint8Array, RegExp][] = [
    ["text", Buffer.from("hello ".repeat(200)), /no tar archive/],
    ["less than a header", Buffer.from("hi"), /damaged or cut off/],
    ["zeros", Buffer.alloc(4096), /holds neither/],
    ["a tar of something else", buildTar([entry("a")]), /holds neither/],
    ["docker's before 1.10", buildTar([entry("repositories", { content: "{}" })]), /older than 1\.10/],
    ["cut in a layer", dockerSave().subarray(0, 3000), /damaged or cut off/],
    ["cut before its list", dockerSave().subarray(0, 4096), /cut off|holds neither/],
    ["a size of petabytes", Buffer.concat([tarHeader({ name: "x", flag: "0", size: 8 ** 11 - 1 }), dockerSave()]), /damaged or cut off/],
    ["a name twice", dockerSave({ before: [entry("c.json", { content: "{}" })] }), /"c\.json" is there twice/],
    ["a name twice in two forms", dockerSave({ before: [entry("./x/../c.json")] }), /is there twice/],
    ["an absolute name", dockerSave({ before: [entry("/etc/passwd")] }), /lies outside/],
    ["a name that climbs", dockerSave({ before: [entry("a/../../b")] }), /lies outside/],
    ["a link that climbs", link("../../etc/shadow"), /link that leads outside/],
    ["an absolute link", link("/etc/shadow"), /link that leads outside/],
    ["a link to itself", link("l"), /nowhere but round/],
    ["a hard link to itself", link("l", "hardlink"), /nowhere but round/],
    ["a link to nothing", link("gone"), /lacks its layer "l"/],
    [
      "a device as a layer",
      dockerSave({ ...one({ Layers: ["l", "l"] }), before: [entry("l", { type: "character" })] }),
      /is of type character, not a file/,
    ],
    ["a directory as a config", dockerSave({ ...one({ Config: "1" }) }), /lacks its config/],
    ["a sparse layer", Buffer.concat([tarHeader({ name: "l", flag: "S", size: 0 }), dockerSave()]), /damaged or cut off/],
    [
      "too many members",
      Buffer.concat([
        ...Array.from({ length: 2 ** 16 + 1 }, (_, index) => tarHeader({ name: String(index), flag: "0", size: 0 })),
        Buffer.alloc(1024),
      ]),
      /more than 65536 members/,
    ],
    ["a list that is an object", dockerSave({ manifest: {} }), /not a list/],
    ["an empty list", dockerSave({ manifest: [] }), /names no image/],
    ["a list of numbers", dockerSave({ manifest: [7] }), /has no Config/],
    ["no Config", dockerSave(one({ Config: null })), /has no Config/],
    ["layers that are a string", dockerSave(one({ Layers: "x" })), /Layers in its manifest\.json/],
    ["layers that are numbers", dockerSave(one({ Layers: [1] })), /Layers in its manifest\.json/],
    ["a bad name", dockerSave(one({ RepoTags: ["A B"] })), /"A B" in its manifest\.json is no name/],
    ["a name of another transport", dockerSave(one({ RepoTags: ["oci:x"] })), /is no name/],
    ["a layer too few", dockerSave(one({ Layers: ["1/layer.tar"] })), /1 layers, its config 2/],
    ["a config that is no JSON", dockerSave({ members: [entry("c.json", { content: "{" })] }), /config is not JSON/],
    [
      "a config of 5 MiB",
      dockerSave({ members: [entry("c.json", { content: " ".repeat(5 * 2 ** 20) })] }),
      /5242880 bytes; 4194304 are allowed/,
    ],
    [
      "a layer packed with xz",
      dockerSave({
        members: [entry("c.json", { content: configOf(layer) }), entry("l", { content: Buffer.from("fd377a585a0000", "hex") })],
        ...one({ Layers: ["l"] }),
      }),
      /packed with xz/,
    ],
    [
      "an index that is no index",
      buildTar([entry("oci-layout", { content: '{"imageLayoutVersion":"1.0.0"}' }), entry("index.json", { content: "[]" })]),
      /not an object/,
    ],
    [
      "a layout of the future",
      buildTar([entry("oci-layout", { content: '{"imageLayoutVersion":"2.0.0"}' }), entry("index.json", { content: "{}" })]),
      /version 2\.0\.0/,
    ],
  ];
  for (const [name, bytes, words] of table) {
    test(name, () =>
      assert.rejects(
        opened(bytes, async (archive) => Promise.all(archive.images.map((image) => image.readRoot()))),
        refusedWith("IMAGE_INVALID", words),
      ),
    );
  }
  test("the wrong transport is corrected", async () => {
    await assert.rejects(
      opened(dockerSave(), () => undefined, "oci"),
      (error) => error instanceof KilnError && /docker-archive:/.test(error.hint),
    );
  });
  test("a directory, a device and a missing file are told apart", async () => {
    const open = async (path: string) =>
      openArchive({ source: { path }, name: "x.tar", form: null, temporaryDirectory: root, signal }, new AsyncDisposableStack());
    await mkdir(join(root, "directory"));
    await assert.rejects(open(join(root, "directory")), refusedWith("IMAGE_INVALID", /directory/));
    await assert.rejects(open("/dev/zero"), refusedWith("IMAGE_INVALID", /a device/));
    await assert.rejects(open(join(root, "nowhere")), refusedWith("IMAGE_SOURCE_MISSING", /there is no file/));
    await assert.rejects(open(join(root, "directory/x/y")), refusedWith("IMAGE_SOURCE_MISSING", /there is no file/));
    await writeFile(join(root, "empty"), "");
    await assert.rejects(open(join(root, "empty")), refusedWith("IMAGE_INVALID", /empty/));
  });
  test("whatever the bytes are, it is images or a typed error", async () => {
    const bytes = dockerSave();
    const flips = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(flips, fc.nat(bytes.length), async (changes, cut) => {
        const changed = Buffer.from(bytes);
        for (const [at, value] of changes) changed[at] = value;
        try {
          await opened(cut % 3 === 0 ? changed.subarray(0, cut) : changed, (archive) => archive.images.length);
        } catch (error) {
          assert(error instanceof KilnError && error.code !== "INTERNAL", String(error));
        }
      }),
      { numRuns: 150 },
    );
  });
});
