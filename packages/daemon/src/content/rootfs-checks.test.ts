import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { imagePlace, PLACE_HEAD_BYTES } from "@kiln/formats/ext4";
import type { Digest } from "@kiln/protocol";
import { buildTar } from "../../../formats/src/tar/tar-writer.fixture.ts";
import type { ResolvedImage } from "../images/ports.ts";
import { RootfsDirectory } from "./rootfs-directory.ts";

const KEY = "c".repeat(64);
const BLOCK = 4096;
const watch = { signal: new AbortController().signal, onPhase: () => undefined, onProgress: () => undefined };

suite("a rootfs beside the published one", () => {
  let home = "";
  let path = "";
  let image: ResolvedImage;
  let rootfs: RootfsDirectory;

  before(async () => {
    home = await mkdtemp(join(tmpdir(), "kiln checks "));
    const tar = buildTar([{ path: "file", type: "file", content: "x".repeat(10_000) }]);
    const digest = `sha256:${createHash("sha256").update(tar).digest("hex")}` as Digest;
    await writeFile(join(home, "layer"), tar);
    for (const name of ["rootfs", "staging"]) await mkdir(join(home, name));
    rootfs = new RootfsDirectory({
      directory: join(home, "rootfs"),
      stagingDir: join(home, "staging"),
      blobPath: () => join(home, "layer"),
    });
    const layers = [{ digest, diffId: digest, size: tar.length, mediaType: "application/vnd.oci.image.layer.v1.tar", format: "tar" }];
    image = { reference: "image", layers } as unknown as ResolvedImage;
    await rootfs.build(image, KEY, watch);
    path = rootfs.path(KEY);
  });
  after(() => rm(home, { recursive: true }));

  test("what lies at an offset is what dumpe2fs says", async () => {
    const head = (await readFile(path)).subarray(0, PLACE_HEAD_BYTES);
    const said = execFileSync("dumpe2fs", [path], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    const at = (words: string): number => Number(new RegExp(`${words}(?: at)? (\\d+)`).exec(said)?.[1]) * BLOCK;
    assert.equal(imagePlace(head, at("Block bitmap")), "the block bitmap of group 0");
    assert.equal(imagePlace(head, at("Inode bitmap") + BLOCK - 1), "the inode bitmap of group 0");
    assert.equal(imagePlace(head, at("Inode table") + 256), "inode 2", "the root");
    assert.match(imagePlace(head, at("Inode table") - 1), /^block \d+, data of a file or a directory$/);
    assert.equal(imagePlace(head, 1024), "the superblock");
    assert.equal(imagePlace(head, at("Group descriptors")), "the group descriptors");
  });

  test("I14 a new rootfs that does not read as it was written does not take the old one's place", async () => {
    const before = await readFile(path);
    const staging = join(home, "staging");
    const failing = rootfs.build(image, KEY, {
      ...watch,
      verify: async (staged) => {
        assert.equal(join(staged, ".."), staging);
        throw new Error("it reads otherwise");
      },
    });
    await assert.rejects(failing, /it reads otherwise/);
    assert.ok((await readFile(path)).equals(before));
    assert.deepEqual(await readdir(staging), []);
  });
});
