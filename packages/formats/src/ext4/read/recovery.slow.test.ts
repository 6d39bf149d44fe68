import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  fsyncSync,
  mkdirSync,
  openSync,
  closeSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { assertSameTree, listTree, skipMount, withMount, withScratch } from "../image.fixture.ts";
import { Ext4ReadError, Ext4Reader } from "./index.ts";
import { listImage, memorySource, withImage } from "./reader.fixture.ts";

const MIB = 2 ** 20;
const JOURNAL_MAGIC = Buffer.from([0xc0, 0x3b, 0x39, 0x98]);

const sync = (path: string): void => {
  const fd = openSync(path, "r");
  fsyncSync(fd);
  closeSync(fd);
};

/** Three transactions at the least: files made, some deleted and directories with them (revoked blocks), others in their blocks, names changed. */
const work = (mounted: string): void => {
  const at = (path: string): string => join(mounted, path);
  for (const directory of ["d", "gone"]) mkdirSync(at(directory));
  for (let index = 0; index < 400; index += 1) writeFileSync(at(`d/file ${index}`), `content ${index}`);
  for (let index = 0; index < 200; index += 1) writeFileSync(at(`gone/a name in a directory that goes away ${index}`), "");
  sync(at("d"));
  rmSync(at("gone"), { recursive: true });
  for (let index = 0; index < 400; index += 2) rmSync(at(`d/file ${index}`));
  sync(at("d"));
  writeFileSync(at("large"), Buffer.alloc(3 * MIB, "takes the blocks of what is gone "));
  renameSync(at("d"), at("renamed"));
  execFileSync("setfattr", ["-n", "user.late", "-v", "v".repeat(300), at("large")]);
  sync(at("large"));
  for (let index = 0; index < 100; index += 1) writeFileSync(at(`renamed/never synced ${index}`), "x");
};

const SETS: readonly (readonly [string, readonly string[], string])[] = [
  ["checksums of version 3 and 64bit", [], "ordered"],
  ["no checksums, no 64bit, blocks of 1 KiB", ["-O", "^metadata_csum,^64bit", "-b", "1024"], "ordered"],
  ["no checksums, 64bit", ["-O", "^metadata_csum"], "ordered"],
  ["ext3", ["-t", "ext3"], "ordered"],
  ["data in the journal, with blocks that look like the journal's own", [], "journal"],
];

const makeImage = (scratch: string, options: readonly string[]): string => {
  const image = join(scratch, "image");
  writeFileSync(image, "");
  truncateSync(image, 48 * MIB);
  const type = options.includes("-t") ? [] : ["-t", "ext4"];
  const blocks = options.includes("-b") ? [] : ["-b", "4096"];
  execFileSync("mke2fs", ["-q", "-F", "-J", "size=8", ...type, ...blocks, ...options, image]);
  return image;
};

/** A copy of the image as it is while the file system is mounted: a machine that has lost its power. */
const copyInUse = (scratch: string, image: string, data: string): string => {
  const [copy, mounted] = [join(scratch, "copy"), join(scratch, "mounted")];
  mkdirSync(mounted);
  execFileSync("mount", ["-o", `loop,data=${data},commit=300`, image, mounted]);
  try {
    if (data === "journal") writeFileSync(join(mounted, "escaped"), Buffer.concat(Array.from({ length: 2048 }, () => JOURNAL_MAGIC)));
    work(mounted);
    copyFileSync(image, copy);
  } finally {
    execFileSync("umount", [mounted]);
  }
  return copy;
};

for (const [what, options, data] of SETS) {
  test(`a file system that was in use reads as a mount shows it, which replays its journal: ${what}`, { skip: skipMount }, () => {
    withScratch((scratch) => {
      const copy = copyInUse(scratch, makeImage(scratch, options), data);
      const actual = withImage(copy, (reader) => {
        assert.ok(reader.needsRecovery);
        return listImage(reader);
      });
      const log = execFileSync("debugfs", ["-R", "logdump -a", copy], { encoding: "utf8", stdio: "pipe" });
      assert.ok(log.includes(data === "journal" ? "(flags 0x3)" : "type 5 (revoke"), "the log has what is to be replayed");
      const expected = withMount(copy, "rw", listTree);
      assertSameTree(actual, expected);
      assert.ok(expected.has("./large") && !expected.has("./gone"));
      withImage(copy, (reader) => assert.ok(!reader.needsRecovery, "the mount has replayed it"));
    });
  });
}

/** The blocks of the journal that begin transactions or end them, as places in the image. */
const journalBlocks = (image: Buffer, type: number): number[] => {
  const places: number[] = [];
  for (let at = 0; at < image.length; at += 4096)
    if (image.readUInt32BE(at) === JOURNAL_MAGIC.readUInt32BE(0) && image.readUInt32BE(at + 4) === type) places.push(at);
  return places;
};

const withFlipped = (image: Buffer, at: number): Buffer => {
  const out = Buffer.from(image);
  out[at] = (out[at] ?? 0) ^ 1;
  return out;
};

const namesIn = (image: Buffer): string[] => [...listImage(Ext4Reader.open(memorySource(image))).keys()];

test("the log ends in front of a transaction that is not whole, whichever of its blocks is damaged", { skip: skipMount }, () => {
  withScratch((scratch) => {
    const image = readFileSync(copyInUse(scratch, makeImage(scratch, []), "ordered"));
    const [descriptors, commits] = [journalBlocks(image, 1), journalBlocks(image, 2)];
    assert.ok(descriptors.length >= 3 && commits.length >= 3);
    assert.ok(namesIn(image).includes("./renamed/file 1"));
    const [firstCommit, lastCommit] = [commits[0] ?? 0, commits.at(-1) ?? 0];
    const beforeAll = namesIn(withFlipped(image, firstCommit + 3000));
    assert.deepEqual(beforeAll, [".", "./lost+found"], "nothing had been written back");
    const beforeLast = namesIn(withFlipped(image, lastCommit + 60));
    assert.ok(beforeLast.length > 2 && !beforeLast.includes("./renamed/file 1"));
    const inDescriptor = namesIn(withFlipped(image, (descriptors.at(-1) ?? 0) + 20));
    assert.deepEqual(inDescriptor, beforeLast);
    const inData = namesIn(withFlipped(image, (descriptors.at(-1) ?? 0) + 4096 + 77));
    assert.deepEqual(inData, beforeLast);
  });
});

test("a journal that is damaged in its own superblock, or uses fast commits, is refused", { skip: skipMount }, () => {
  withScratch((scratch) => {
    const image = readFileSync(copyInUse(scratch, makeImage(scratch, []), "ordered"));
    const [superblock] = journalBlocks(image, 4);
    const codeOf = (bytes: Buffer): string => {
      try {
        namesIn(bytes);
      } catch (error) {
        assert.ok(error instanceof Ext4ReadError, String(error));
        return error.code;
      }
      return "none";
    };
    assert.equal(codeOf(withFlipped(image, (superblock ?? 0) + 0x18)), "CHECKSUM");
    const fast = Buffer.from(image);
    fast[(superblock ?? 0) + 0x2b] = (fast[(superblock ?? 0) + 0x2b] ?? 0) | 0x20;
    assert.equal(codeOf(fast), "UNSUPPORTED");
  });
});

test("whatever the bytes of the journal, there is a result or a typed error", { skip: skipMount, timeout: 120_000 }, () => {
  withScratch((scratch) => {
    const image = readFileSync(copyInUse(scratch, makeImage(scratch, ["-O", "^metadata_csum"]), "ordered"));
    const heads = [1, 2, 4, 5].flatMap((type) => journalBlocks(image, type));
    const place = fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 4095 }));
    const change = fc.record({
      head: fc.constantFrom(...heads),
      place,
      value: fc.oneof(fc.nat({ max: 255 }), fc.constantFrom(0, 1, 8, 0xff)),
    });
    let read = 0;
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), (changes) => {
        const was = changes.map(({ head, place }) => image[head + place] ?? 0);
        for (const { head, place, value } of changes) image[head + place] = value;
        try {
          read += namesIn(image).length > 0 ? 1 : 0;
        } catch (error) {
          assert.ok(error instanceof Ext4ReadError, String(error));
        } finally {
          for (const [index, { head, place }] of [...changes.entries()].reverse()) image[head + place] = was[index] ?? 0;
        }
      }),
      { numRuns: 150, seed: 8 },
    );
    assert.ok(read > 10 && read < 150, `${read} of 150 were read`);
  });
});
