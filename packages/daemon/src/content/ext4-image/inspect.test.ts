import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, open, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { inspectImage } from "./inspect.ts";

const never = new AbortController().signal;
const MIB = 2 ** 20;

const inspect = (path: string) => inspectImage(path, "mine", { signal: never, onProgress: () => undefined });

describe("a file system that a person brings", () => {
  let scratch: string;
  let tree: string;
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), "kiln-ext4-image-"));
    tree = join(scratch, "tree");
    await mkdir(join(tree, "deep/deeper"), { recursive: true });
    await writeFile(join(tree, "deep/deeper/file"), Buffer.alloc(3 * MIB, "x"));
    await writeFile(join(tree, "small"), "content");
    execFileSync("ln", ["-s", "deep/deeper", join(tree, "link")]);
    execFileSync("ln", [join(tree, "small"), join(tree, "hard")]);
  });
  after(() => rm(scratch, { recursive: true }));

  const make = (name: string, ...options: string[]): string => {
    const path = join(scratch, name);
    execFileSync("mke2fs", ["-q", "-F", "-t", "ext4", ...options, "-d", tree, path, "32M"], { stdio: "pipe" });
    return path;
  };

  const FORMS: Readonly<Record<string, readonly string[]>> = {
    plain: [],
    "without a journal": ["-O", "^has_journal"],
    "small blocks": ["-b", "1024"],
    "without checksums": ["-O", "^metadata_csum"],
    "ext3, with block maps": ["-O", "^extents,^64bit,^flex_bg"],
    "content in inodes": ["-O", "inline_data"],
  };
  for (const [form, options] of Object.entries(FORMS)) {
    test(`of the form ${form} is read in full, and has the digest of its bytes`, async () => {
      const path = make(form.replaceAll(/\W+/g, "-"), ...options);
      const found = await inspect(path);
      assert.equal(
        found.digest,
        `sha256:${createHash("sha256")
          .update(await readFile(path))
          .digest("hex")}`,
      );
      assert.equal(found.entries, 8); // with the root and lost+found
    });
  }

  const refused = async (path: string, expected: { code?: string; message: RegExp; hint?: RegExp }) =>
    assert.rejects(inspect(path), { code: "ROOTFS_INVALID", object: "mine", ...expected });

  test("is refused where it is none, with what it is", async () => {
    const file = async (name: string, content: string | Buffer): Promise<string> => {
      await writeFile(join(scratch, name), content);
      return join(scratch, name);
    };
    await refused(await file("empty", ""), { message: /is empty/, hint: /mke2fs/ });
    await refused(await file("text", "hello".repeat(1000)), { message: /no ext4 superblock/ });
    await refused(await file("qcow2", Buffer.concat([Buffer.from("QFI\u00fb", "latin1"), Buffer.alloc(8192)])), {
      message: /qcow2.*qemu-img/,
    });
    const tar = join(scratch, "a.tar");
    execFileSync("tar", ["-C", tree, "-cf", tar, "."]);
    await refused(tar, { message: /a tar.*kiln load/ });
    execFileSync("gzip", ["-k", tar]);
    await refused(`${tar}.gz`, { message: /packed by gzip/ });
  });

  test("is refused where it was in use, is cut off, or has blocks that no guest mounts", async () => {
    const used = make("used");
    execFileSync("debugfs", ["-w", "-R", "feature +needs_recovery", used], { stdio: "pipe" });
    await refused(used, { message: /journal has to be replayed/, hint: /e2fsck/ });
    const cut = make("cut");
    await truncate(cut, 20 * MIB);
    await refused(cut, { message: /superblock has \d+ blocks/, hint: /cut off/ });
    await refused(make("blocks", "-b", "65536"), { message: /blocks of 65536 bytes/ });
  });

  test("is refused where anything that is reachable is damaged, with the inode or the block", async () => {
    const path = make("damaged");
    const found = execFileSync("debugfs", ["-R", "imap /deep/deeper/file", path], { encoding: "utf8", stdio: "pipe" });
    const [, block, offset] = /located at block (\d+), offset 0x([0-9a-f]+)/.exec(found) ?? [];
    const [, size] = /Block size:\s+(\d+)/.exec(execFileSync("dumpe2fs", ["-h", path], { encoding: "utf8", stdio: "pipe" })) ?? [];
    await using file = await open(path, "r+");
    // the first extent's block, in the inode
    await file.write(
      Buffer.from([0xff, 0xff, 0xff, 0x7f]),
      0,
      4,
      Number(block) * Number(size) + Number.parseInt(offset ?? "", 16) + 0x28 + 12 + 8,
    );
    await refused(path, { message: /inode \d+/ });
  });

  test("that nobody waits for any more is let go", async () => {
    const stop = new AbortController();
    const waiting = inspectImage(make("left"), "mine", { signal: stop.signal, onProgress: () => undefined });
    stop.abort(new Error("left"));
    await assert.rejects(waiting, /left/);
  });
});
