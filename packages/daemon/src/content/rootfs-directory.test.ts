import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { MEDIA_TYPES } from "@kiln/formats/oci";
import type { Digest } from "@kiln/protocol";
import type { ImageLayer, ResolvedImage } from "../images/ports.ts";
import { rootfsKey } from "../images/rootfs-key.ts";
import { ContentStore } from "./content-store.ts";
import { RootfsDirectory } from "./rootfs-directory.ts";

const signal = new AbortController().signal;
const WRITER = { version: "1", options: {} };
const WATCH = { signal, onPhase: () => undefined, onProgress: () => undefined };

const sha256 = (bytes: Uint8Array): Digest => `sha256:${createHash("sha256").update(bytes).digest("hex")}` as Digest;

describe("the rootfs of an image whose layer is a file system", () => {
  let scratch: string;
  let fileSystem: Buffer;
  let tar: Buffer;
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), "kiln-rootfs-of-"));
    const [tree, upper] = [join(scratch, "tree"), join(scratch, "upper")];
    await mkdir(join(tree, "etc"), { recursive: true });
    await mkdir(join(upper, "etc"), { recursive: true });
    await writeFile(join(tree, "etc/kept"), "kept");
    await writeFile(join(tree, "etc/gone"), "gone");
    await writeFile(join(tree, "etc/changed"), "before");
    await writeFile(join(upper, "etc/changed"), "after");
    await writeFile(join(upper, "etc/.wh.gone"), "");
    execFileSync("mke2fs", ["-q", "-t", "ext4", "-d", tree, join(scratch, "root.ext4"), "16M"]);
    fileSystem = await readFile(join(scratch, "root.ext4"));
    tar = execFileSync("tar", ["-C", upper, "-cf", "-", "etc"]);
  });
  after(() => rm(scratch, { recursive: true }));

  const storeOf = async (layers: readonly (readonly [bytes: Buffer, mediaType: string])[]) => {
    const home = await mkdtemp(join(scratch, "home-"));
    const stagingDir = join(home, "staging");
    const store = new ContentStore({ directory: join(home, "content"), stagingDir });
    await mkdir(join(home, "rootfs"));
    const rootfs = new RootfsDirectory({ directory: join(home, "rootfs"), stagingDir, blobPath: (digest) => store.path(digest) });
    const stored = layers.map(([bytes, mediaType]): ImageLayer => {
      const digest = sha256(bytes);
      return { digest, size: bytes.length, mediaType, format: mediaType === MEDIA_TYPES.layerExt4 ? "ext4" : "tar", diffId: digest };
    });
    for (const [index, [bytes]] of layers.entries()) {
      const source = async function* (): AsyncGenerator<Uint8Array> {
        yield bytes;
      };
      await store.ingest(source(), { expected: { digest: stored[index]?.digest ?? sha256(bytes), size: bytes.length }, signal });
    }
    const image = { reference: "mine", layers: stored } as unknown as ResolvedImage;
    const key = rootfsKey(image, WRITER);
    return { rootfs, image, key, stagingDir, path: rootfs.path(key), blob: store.path(sha256(fileSystem)) };
  };

  test("is the blob itself under a further name, and stays it when it is built again", async () => {
    const { rootfs, image, key, stagingDir, path, blob } = await storeOf([[fileSystem, MEDIA_TYPES.layerExt4]]);
    for (let round = 0; round < 2; round += 1) {
      const { digest, fingerprint } = await rootfs.build(image, key, WATCH);
      assert.equal(digest, sha256(fileSystem));
      assert.equal((await stat(path)).ino, (await stat(blob)).ino);
      assert.equal((await stat(path)).mode & 0o777, 0o444);
      assert.ok(await rootfs.isWhole({ key, digest, fingerprint, createdAt: "" }, { signal }));
      assert.deepEqual(await readdir(stagingDir), []);
    }
    assert.equal(rootfs.removeNow(key), 0, "nothing is freed while the blob is there");
    assert.ok((await stat(blob)).blocks > 0);
  });

  test("is not published of a blob that is damaged (I7)", async () => {
    const { rootfs, image, key, path, blob } = await storeOf([[fileSystem, MEDIA_TYPES.layerExt4]]);
    await chmod(blob, 0o644);
    await using file = await open(blob, "r+");
    await file.write(Buffer.from("damage"), 0, 6, fileSystem.length - 4096);
    await assert.rejects(rootfs.build(image, key, WATCH), { code: "LAYER_INVALID", object: "mine" });
    await assert.rejects(stat(path), { code: "ENOENT" });
  });

  test("is written of all of them where layers lie above it", async () => {
    const { rootfs, image, key, path } = await storeOf([
      [fileSystem, MEDIA_TYPES.layerExt4],
      [tar, MEDIA_TYPES.layerTar],
    ]);
    await rootfs.build(image, key, WATCH);
    execFileSync("e2fsck", ["-fn", path], { stdio: "pipe" });
    const show = (file: string): string => execFileSync("debugfs", ["-R", `cat ${file}`, path], { encoding: "utf8", stdio: "pipe" });
    assert.equal(show("/etc/kept"), "kept");
    assert.equal(show("/etc/changed"), "after");
    assert.equal(show("/etc/gone"), "");
  });

  test("I2 is built beside one other at a time, and who waits for a turn can leave", async () => {
    const { image, stagingDir } = await storeOf([[tar, MEDIA_TYPES.layerTar]]);
    const pipes = await mkdtemp(join(scratch, "pipes-"));
    let [begun, fed] = [0, 0];
    // a build reads its layer from a pipe, and ends when something comes through it
    const blobPath = (): string => {
      const path = join(pipes, String((begun += 1)));
      execFileSync("mkfifo", [path]);
      return path;
    };
    const rootfs = new RootfsDirectory({ directory: pipes, stagingDir, blobPath, buildsAtOnce: 2 });
    const leave = new AbortController();
    const build = (name: string, stop: AbortSignal) => rootfs.build(image, name.repeat(64), { ...WATCH, signal: stop });
    const all = ["a", "b", "c", "d"].map((name) => build(name, signal));
    const left = build("e", leave.signal);
    leave.abort(new Error("left"));
    await assert.rejects(left, /left/);
    for (const expected of [2, 3, 4, 4]) {
      while (begun < expected) await new Promise((resolve) => setTimeout(resolve, 1));
      assert.equal(begun, expected);
      await writeFile(join(pipes, String((fed += 1))), tar);
    }
    assert.equal(new Set((await Promise.all(all)).map(({ digest }) => digest)).size, 4);
  });

  test("has a key of its own, where a tar of the same digest has another; keys of tars are what they were", () => {
    const layer = { digest: sha256(tar), size: 1, mediaType: "", diffId: sha256(tar) };
    const keyOf = (...formats: ImageLayer["format"][]) => rootfsKey({ layers: formats.map((format) => ({ ...layer, format })) }, WRITER);
    assert.notEqual(keyOf("ext4"), keyOf("tar"));
    assert.notEqual(keyOf("ext4", "tar"), keyOf("tar", "ext4"));
    assert.equal(keyOf("tar"), keyOf("tar+gzip"));
    const parts = { kind: "kiln.rootfs", diffIds: [`sha256:${"0".repeat(64)}`], version: "1", options: [] };
    const known = createHash("sha256").update(JSON.stringify(parts)).digest("hex");
    const old = { ...layer, diffId: `sha256:${"0".repeat(64)}` as Digest, format: "tar+gzip" as const };
    assert.equal(rootfsKey({ layers: [old] }, WRITER), known);
  });
});
