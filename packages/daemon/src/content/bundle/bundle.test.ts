import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { type BundleManifest, BUNDLE_VERSION, imageExecution } from "@kiln/protocol";
import { encodeEntry } from "@kiln/formats/tar";
import { ContentStore } from "../content-store.ts";
import { BUNDLE_LIMITS } from "./entries.ts";
import { readBundle } from "./read-bundle.ts";
import { fewer, writeBundle } from "./write-bundle.ts";

const never = new AbortController().signal;
const MIB = 2 ** 20;

const collect = async (chunks: AsyncIterable<Uint8Array>): Promise<Buffer> => Buffer.concat(await Array.fromAsync(chunks));

async function* inPieces(bytes: Uint8Array, pieceBytes = 4096): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

describe("a bundle", () => {
  let scratch: string;
  let path: string;
  let manifest: BundleManifest;
  let bundle: Buffer;
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), "kiln-bundle-"));
    path = join(scratch, "rootfs.ext4");
    await using file = await open(path, "w");
    await file.write(Buffer.alloc(100_000, "a"), 0, 100_000, 0);
    await file.write(Buffer.from("in the middle"), 0, 13, 20 * MIB + 7);
    await file.truncate(40 * MIB + 512);
    const rootfs = { digest: `sha256:${sha256(await readFile(path))}`, sizeBytes: 40 * MIB + 512 };
    const config = imageExecution.parse({ cmd: ["sh"], env: ["A=b"], labels: { x: "y" } });
    manifest = {
      ...{ formatVersion: BUNDLE_VERSION, reference: "docker.io/library/mine:1", platform: "linux/amd64", config, rootfs },
      ...{ kernel: "debian-cloud", createdBy: "kiln 0" },
    };
    bundle = await collect(writeBundle(manifest, path, never));
  });
  after(() => rm(scratch, { recursive: true }));

  /** Reads it into a store of its own; `left` is what is in that then. */
  const read = async (source: AsyncIterable<Uint8Array>) => {
    const home = await mkdtemp(join(scratch, "home-"));
    const [directory, stagingDir] = [join(home, "content"), join(home, "staging")];
    const store = new ContentStore({ directory, stagingDir });
    const [outcome] = await Promise.allSettled([readBundle(source, store, { signal: never, hold: () => undefined })]);
    const left = await Promise.all([join(directory, "sha256"), stagingDir].map((one) => readdir(one).catch(() => [])));
    return { outcome, store, blobs: left[0] ?? [], staged: left[1] ?? [] };
  };

  const refused = async (source: AsyncIterable<Uint8Array>, message: RegExp, code = "BUNDLE_INVALID") => {
    const { outcome, staged } = await read(source);
    assert.ok(outcome?.status === "rejected");
    const error = outcome.reason as { code: string; message: string };
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.deepEqual(staged, []);
  };

  test("is what GNU tar unpacks, with its holes, and sha256sum finds right", async () => {
    const directory = join(scratch, "unpacked");
    await mkdir(directory);
    await writeFile(join(scratch, "b.kiln"), bundle);
    const names = execFileSync("tar", ["--zstd", "-tf", join(scratch, "b.kiln")], { encoding: "utf8" });
    assert.equal(names, "manifest.json\nrootfs.ext4\nsha256\n");
    execFileSync("tar", ["--zstd", "-xf", join(scratch, "b.kiln")], { cwd: directory });
    assert.match(
      execFileSync("sha256sum", ["-c", "sha256"], { cwd: directory, encoding: "utf8" }),
      /^manifest.json: OK\nrootfs.ext4: OK\n$/,
    );
    const { size, blocks } = await stat(join(directory, "rootfs.ext4"));
    assert.equal(size, manifest.rootfs.sizeBytes);
    assert.ok(blocks * 512 < MIB, `${blocks} blocks`);
    assert.deepEqual(JSON.parse(await readFile(join(directory, "manifest.json"), "utf8")), manifest);
  });

  test("is the same bytes each time, and costs nothing for holes", async () => {
    assert.ok((await collect(writeBundle(manifest, path, never))).equals(bundle));
    assert.ok(bundle.length < 4096, `${bundle.length} bytes`);
  });

  test("is read back with the same rootfs, whose holes are holes, in pieces of any size", async () => {
    for (const pieceBytes of [1, 511, 65_536]) {
      const { outcome, store, blobs, staged } = await read(inPieces(bundle, pieceBytes));
      assert.equal(outcome?.status, "fulfilled");
      assert.deepEqual((outcome as PromiseFulfilledResult<unknown>).value, manifest);
      assert.deepEqual([blobs, staged], [[manifest.rootfs.digest.slice(7)], []]);
      const stored = await stat(store.path(manifest.rootfs.digest as never));
      assert.ok(stored.blocks * 512 < MIB);
      assert.equal(sha256(await readFile(store.path(manifest.rootfs.digest as never))), blobs[0]);
    }
  });

  test("that GNU tar has packed is read as well", async () => {
    const directory = join(scratch, "by-tar");
    await mkdir(directory);
    execFileSync("tar", ["--zstd", "-xf", join(scratch, "b.kiln")], { cwd: directory });
    const files = ["manifest.json", "rootfs.ext4", "sha256"];
    const packed = execFileSync("tar", ["--format=pax", "-S", "--zstd", "-cf", "-", ...files], { cwd: directory, maxBuffer: 1 << 28 });
    assert.equal((await read(inPieces(packed))).outcome?.status, "fulfilled");
  });

  test("that is cut off anywhere is refused", async () => {
    for (let length = 0; length < bundle.length; length += length < 64 ? 1 : 97) {
      await refused(inPieces(bundle.subarray(0, length)), /no bundle/);
    }
  });

  test("that is followed by something is refused", async () => {
    await refused(inPieces(Buffer.concat([bundle, Buffer.from("more")])), /no bundle/);
    await refused(inPieces(Buffer.concat([bundle, zstdCompressSync(Buffer.alloc(MIB))])), /bytes follow/);
  });

  /** A bundle of GNU tar's, of these files in this order. */
  const packed = async (files: readonly (readonly [name: string, content: string | Buffer])[]): Promise<Buffer> => {
    const directory = await mkdtemp(join(scratch, "hostile-"));
    const parts: Buffer[] = [];
    for (const [name, content] of files) {
      await writeFile(join(directory, name), content);
      const tar = execFileSync("tar", ["-b", "1", "--format=pax", "-cf", "-", name], { cwd: directory, maxBuffer: 1 << 28 });
      parts.push(tar.subarray(0, tar.length - 1024));
    }
    return zstdCompressSync(Buffer.concat([...parts, Buffer.alloc(1024)]));
  };

  test("with other entries, another order, other sizes or other sums is refused", async () => {
    const content = Buffer.from("a small rootfs");
    const of = (changes: Partial<BundleManifest> = {}): string =>
      JSON.stringify({ ...manifest, rootfs: { digest: `sha256:${sha256(content)}`, sizeBytes: content.length }, ...changes });
    const text = of();
    const sums = `${sha256(Buffer.from(text))}  manifest.json\n${sha256(content)}  rootfs.ext4\n`;
    const whole = [
      ["manifest.json", text],
      ["rootfs.ext4", content],
      ["sha256", sums],
    ] as const;
    assert.equal((await read(inPieces(await packed(whole)))).outcome?.status, "fulfilled");
    const [first, second, third] = whole;
    const cases: readonly (readonly [RegExp, readonly (readonly [string, string | Buffer])[]])[] = [
      [/rootfs.ext4" stands where manifest.json belongs/, [second, first, third]],
      [/sha256" stands where rootfs.ext4 belongs/, [first, third]],
      [/other" stands where sha256 belongs/, [first, second, ["other", "x"]]],
      [/ends before sha256/, [first, second]],
      [/ends before manifest/, []],
      [/more" follows the last entry/, [...whole, ["more", "x"]]],
      [/other sums/, [first, second, ["sha256", sums.replace(/^./, "x")]]],
      [/is not JSON/, [["manifest.json", "{"], second, third]],
      [/formatVersion/, [["manifest.json", of({ formatVersion: 2 as never })], second, third]],
      [/more than/, [["manifest.json", "x".repeat(2 * MIB)], second, third]],
      [/has 3 bytes/, [first, ["rootfs.ext4", "abc"], third]],
      [/more than \d+/, [["manifest.json", of({ rootfs: { digest: manifest.rootfs.digest, sizeBytes: 2 ** 50 } })], second, third]],
    ];
    for (const [message, files] of cases) await refused(inPieces(await packed(files)), message);
    const other = Buffer.from("A small rootfs");
    await refused(inPieces(await packed([first, ["rootfs.ext4", other], third])), /bytes that came as/, "CONTENT_DIGEST_MISMATCH");
  });

  test("with a huge hole holds up nobody, and can be left in the middle of it", { timeout: 60_000 }, async () => {
    const sizeBytes = 3 * 2 ** 30;
    const text = JSON.stringify({ ...manifest, rootfs: { digest: `sha256:${"0".repeat(64)}`, sizeBytes } });
    const directory = await mkdtemp(join(scratch, "hole-"));
    await writeFile(join(directory, "manifest.json"), text);
    await using file = await open(join(directory, "rootfs.ext4"), "w");
    await file.truncate(sizeBytes);
    const files = ["manifest.json", "rootfs.ext4"];
    const bytes = execFileSync("tar", ["--format=pax", "-S", "--zstd", "-cf", "-", ...files], { cwd: directory });
    const store = new ContentStore({ directory: join(directory, "content"), stagingDir: join(directory, "staging") });
    const left = new AbortController();
    // hashing so many zeros takes seconds
    const timer = setTimeout(() => left.abort(new Error("the caller has left")), 300);
    await assert.rejects(readBundle(inPieces(bytes), store, { signal: left.signal, hold: () => undefined }), /the caller has left/);
    clearTimeout(timer);
    assert.deepEqual(await readdir(join(directory, "staging")), []);
  });

  test("with a sparse map that is none is refused", async () => {
    const tar = zstdDecompressSync(bundle);
    const at = tar.indexOf("\n0\n131072\n") + 3;
    assert.ok(at > 3);
    const changed = Buffer.from(tar);
    changed.write("9", at); // the first stretch is longer than what is stored
    await refused(inPieces(zstdCompressSync(changed)), /sparse/);
  });

  test("names no more stretches than a tar's map may have: the shortest holes are packed instead", () => {
    const at = (offset: number, length = 65_536) => ({ offset: offset * 65_536, length });
    const segments = [at(0), at(2), at(6), at(20, 5), at(22)];
    assert.deepEqual(fewer(segments, 5), segments);
    assert.deepEqual(fewer(segments, 4), [at(0, 3 * 65_536), at(6), at(20, 5), at(22)]);
    assert.deepEqual(fewer(segments, 3), [at(0, 3 * 65_536), at(6), at(20, 3 * 65_536)]);
    assert.deepEqual(fewer(segments, 2), [at(0, 7 * 65_536), at(20, 3 * 65_536)]);
    assert.deepEqual(fewer(segments, 1), [at(0, 23 * 65_536)]);
    assert.deepEqual(fewer([], 1), []);
    const all = Array.from({ length: 2 ** 18 + 1 }, (_, index) => at(2 * index));
    const entry = { type: "file" as const, path: "rootfs.ext4", linkPath: "", mode: 0o644, uid: 0, gid: 0, sizeBytes: 2 ** 36 };
    const rest = { modifiedAt: { seconds: 0, nanoseconds: 0 }, deviceMajor: 0, deviceMinor: 0, xattrs: new Map<never, never>() };
    assert.ok(
      encodeEntry({ ...entry, ...rest, segments: fewer(all.slice(0, BUNDLE_LIMITS.segments), BUNDLE_LIMITS.segments) }).length > MIB,
    );
    assert.throws(() => encodeEntry({ ...entry, ...rest, segments: all.slice(0, BUNDLE_LIMITS.segments + 1) }), { code: "LIMIT" });
    assert.equal(fewer(all, BUNDLE_LIMITS.segments).length, 1);
  });

  test("is not written of a file that is not what was published", async () => {
    const damaged = join(scratch, "damaged.ext4");
    await writeFile(damaged, "damaged");
    await assert.rejects(collect(writeBundle(manifest, damaged, never)), { code: "ARTIFACT_DAMAGED", hint: /kiln image rebuild/ });
  });
});
