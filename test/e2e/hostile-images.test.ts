import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { connect } from "@kiln/sdk/node";
import { buildTar, sealHeader, tarHeader, type TarSpec } from "../../packages/formats/src/tar/tar-writer.fixture.ts";
import { TestHome } from "./home.ts";

const MIB = 2 ** 20;
const LIMITS = { KILN_MAX_ROOTFS_BYTES: String(8 * MIB), KILN_MAX_ROOTFS_ENTRIES: "1000", KILN_MAX_UNPACKED_BYTES: String(64 * MIB) };
const EXPANSION = { KILN_MAX_UNPACK_RATIO: "20", KILN_FREE_UNPACK_BYTES: String(16 * MIB) };

interface Layer {
  readonly tar: Uint8Array;
  /** As it is packed; the tar as it is where there is none. */
  readonly blob?: Uint8Array;
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const digest = (bytes: Uint8Array): string => `sha256:${sha256(bytes)}`;
const layer = (...specs: readonly TarSpec[]): Layer => ({ tar: buildTar(specs) });
const packed = (tar: Uint8Array, ...more: readonly Uint8Array[]): Layer => ({ tar, blob: Buffer.concat([gzipSync(tar), ...more]) });

interface LayoutChanges {
  /** Instead of the layers' own. */
  readonly diffIds?: readonly string[];
}

const writeLayout = async (directory: string, layers: readonly Layer[], { diffIds }: LayoutChanges = {}): Promise<void> => {
  await mkdir(join(directory, "blobs/sha256"), { recursive: true });
  const put = async (bytes: Uint8Array, mediaType: string) => {
    await writeFile(join(directory, "blobs/sha256", sha256(bytes)), bytes);
    return { mediaType, digest: digest(bytes), size: bytes.length };
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const descriptors = [];
  for (const { tar, blob } of layers)
    descriptors.push(await put(blob ?? tar, `application/vnd.oci.image.layer.v1.tar${blob === undefined ? "" : "+gzip"}`));
  const rootfs = { type: "layers", diff_ids: diffIds ?? layers.map(({ tar }) => digest(tar)) };
  const architecture = process.arch === "x64" ? "amd64" : "arm64";
  const config = await put(json({ architecture, os: "linux", config: {}, rootfs }), "application/vnd.oci.image.config.v1+json");
  const manifest = await put(json({ schemaVersion: 2, config, layers: descriptors }), "application/vnd.oci.image.manifest.v1+json");
  await writeFile(join(directory, "index.json"), json({ schemaVersion: 2, manifests: [manifest] }));
  await writeFile(join(directory, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
};

const file = (path: string, content: Uint8Array | string = "x"): TarSpec => ({ path, content });
const longHeader = Buffer.concat([tarHeader({ name: "x", flag: "x", size: 4 * 2 ** 30 }), Buffer.alloc(1024)]);
const badChecksum = Buffer.from(buildTar([file("a")]));
badChecksum[0] = 0x62;
const negative = tarHeader({ name: "f", flag: "0", size: 0 });
negative.fill(0xff, 124, 136);
const zeros = (bytes: number): Uint8Array => buildTar([file("zeros", Buffer.alloc(bytes))]);

const CASES: readonly (readonly [what: string, code: string, layers: readonly Layer[], changes?: LayoutChanges])[] = [
  ["a path that climbs", "LAYER_INVALID", [layer(file("../../../etc/cron.d/x"))]],
  ["a hard link out of the image", "LAYER_INVALID", [layer({ path: "p", type: "hardlink", link: "/etc/passwd" })]],
  ["a hard link to a later entry", "LAYER_INVALID", [layer({ path: "p", type: "hardlink", link: "q" }, file("q"))]],
  ["an extended header of 4 GiB", "LAYER_INVALID", [{ tar: longHeader }]],
  ["a negative size", "LAYER_INVALID", [{ tar: sealHeader(negative) }]],
  ["a wrong checksum", "LAYER_INVALID", [{ tar: badChecksum }]],
  ["a tar that is cut", "LAYER_INVALID", [{ tar: buildTar([file("a", "content")]).subarray(0, 515) }]],
  ["a name of 256 bytes", "LAYER_INVALID", [layer(file("n".repeat(256)))]],
  ["garbage behind a gzip", "LAYER_INVALID", [packed(buildTar([file("a")]), Buffer.from("garbage"))]],
  ["another tar than the diff id says", "LAYER_INVALID", [layer(file("a"))], { diffIds: [digest(Buffer.from("another"))] }],
  ["a bomb by ratio", "ROOTFS_TOO_LARGE", [packed(zeros(20 * MIB))]],
  ["a bomb by size", "ROOTFS_TOO_LARGE", [{ tar: zeros(70 * MIB) }]],
  ["a bomb by entries", "ROOTFS_TOO_LARGE", [layer(...Array.from({ length: 1001 }, (_, index) => file(`f${index}`, "")))]],
  ["more than a rootfs may have", "ROOTFS_TOO_LARGE", [layer(file("f", Buffer.alloc(9 * MIB, 1)))]],
  ["a digest algorithm that nobody checks", "IMAGE_INVALID", [layer(file("a"))], { diffIds: [`sha512:${"0".repeat(128)}`] }],
];

describe("a hostile image is a typed error, and nothing of it is left", () => {
  let home: TestHome;
  let scratch: string;
  before(async () => {
    home = await TestHome.warm({}, { KILN_DRIVER: "fake", ...LIMITS, ...EXPANSION });
    scratch = await mkdtemp(join(tmpdir(), "kiln-hostile-"));
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
    await rm(scratch, { recursive: true });
  });

  const filesIn = (directory: string): Promise<string[]> => readdir(join(home.path, directory));

  for (const [what, code, layers, changes] of CASES) {
    test(`I15 ${what} is ${code}`, async () => {
      const layout = join(scratch, what.replaceAll(" ", "-"));
      await writeLayout(layout, layers, changes);
      const outcome = await home.kiln(["create", "--json", `oci:${layout}`]);
      assert.equal(outcome.code, 1, outcome.stderr);
      const problem = JSON.parse(outcome.stderr.trim()) as { code: string; hint: string };
      assert.equal(problem.code, code, outcome.stderr);
      assert.ok(problem.hint.length > 0);
      assert.deepEqual(await filesIn("staging"), []);
      assert.deepEqual(await filesIn("rootfs"), []);
      assert.deepEqual(await filesIn("vms"), []);
      using kiln = connect({ home: home.path });
      assert.deepEqual(await kiln.vms.list(), []);
      for (const { reference, rootfsDigest } of await kiln.images.list()) {
        assert.equal(rootfsDigest, null, "no rootfs is recorded");
        await kiln.images.remove(reference);
      }
      assert.deepEqual((await kiln.df()).orphans, []);
    });
  }

  test("I15 an unknown algorithm is named", async () => {
    const layout = join(scratch, "algorithm");
    await writeLayout(layout, [layer(file("a"))], { diffIds: [`blake3:${"0".repeat(64)}`] });
    const outcome = await home.kiln(["create", "--json", `oci:${layout}`]);
    assert.match(outcome.stderr, /blake3:0+; only sha256 is supported/);
  });

  test("a symlink of a lower layer leads an upper layer's entry inside the image, and the host's own file stays as it is", async () => {
    const layout = join(scratch, "swap");
    await mkdir(join(scratch, "target"));
    const target = join(scratch, "target").slice(1);
    await writeLayout(layout, [layer({ path: "a", type: "symlink", link: `/${target}` }), layer(file("a/passwd", "theirs"))]);
    await home.ok("create", "--name", "swapped", `oci:${layout}`);
    assert.deepEqual(await readdir(join(scratch, "target")), []);
    await home.ok("rm", "swapped");
  });
});
