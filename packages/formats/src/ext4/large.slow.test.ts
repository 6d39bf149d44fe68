import assert from "node:assert/strict";
import { closeSync, lstatSync, openSync, readSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { paxRecord, sealHeader, tarEntry, tarHeader } from "../tar/tar-writer.fixture.ts";
import { assertClean, buildImage, skipMount, withMount, withScratch } from "./image.fixture.ts";

const MIB = 2 ** 20;

const numbered = (index: number): string => `entry-${String(index).padStart(7, "0")}`;

/** A tar of `count` empty files, in pieces. */
function* manyFiles(count: number): Generator<Buffer> {
  for (let start = 0; start < count; start += 1000) {
    const headers = Array.from({ length: Math.min(1000, count - start) }, (_, index) =>
      tarHeader({ name: `many/${numbered(start + index)}`, flag: "0", size: 0 }),
    );
    yield Buffer.concat(headers);
  }
}

test("a directory of a million entries is built in memory that a laptop has, and the kernel finds each name", { skip: skipMount }, () => {
  const count = 1_000_000;
  withScratch((scratch) => {
    const image = join(scratch, "image");
    const summary = buildImage(image, [() => manyFiles(count)], { limits: { maxEntries: 2 * count } });
    assert.equal(summary.inodes, count + 2);
    assert.ok(statSync(image).blocks * 512 < 400 * MIB, "inodes of 256 bytes, and names");
    const peakBytes = process.resourceUsage().maxRSS * 1024;
    assert.ok(peakBytes < 2500 * MIB, `${Math.round(peakBytes / MIB)} MiB`);
    assertClean(image);
    withMount(image, "ro", (mounted) => {
      assert.equal(new Set(readdirSync(join(mounted, "many"))).size, count);
      for (let index = 0; index < count; index += 7) lstatSync(`${mounted}/many/${numbered(index)}`);
      assert.throws(() => lstatSync(`${mounted}/many/${numbered(count)}`), { code: "ENOENT" });
    });
  });
});

const FILE_BYTES = 9 * 1024 * MIB;
const FILLER = Buffer.alloc(MIB, 0x66);

/** A mark in the middle of every 64th MiB; the rest of the file is filler. */
const markAt = (piece: number): Buffer => {
  const marked = Buffer.from(FILLER);
  marked.write(`mark ${piece}.`, 12_345);
  return marked;
};

/** One file of 9 GiB without a hole; its size fits into no octal field, so a PAX record says it. */
function* denseFile(): Generator<Buffer> {
  const size = Buffer.from(paxRecord("size", String(FILE_BYTES)));
  yield Buffer.concat([tarHeader({ name: "x", flag: "x", size: size.length }), size, Buffer.alloc(512 - size.length)]);
  yield tarHeader({ name: "dense", flag: "0", size: 0 });
  for (let piece = 0; piece < FILE_BYTES / MIB; piece += 1) yield piece % 64 === 0 ? markAt(piece) : FILLER;
  yield Buffer.concat([tarEntry({ path: "after", content: "after" }), Buffer.alloc(1024)]);
}

test("a file of 9 GiB without holes spans block groups and extents, and reads back where it was marked", { skip: skipMount }, () => {
  withScratch((scratch) => {
    const image = join(scratch, "image");
    const keep = (bytes: Uint8Array): boolean => bytes.length !== MIB || !FILLER.equals(bytes);
    const summary = buildImage(image, [denseFile], { keep });
    assert.ok(summary.blocks > FILE_BYTES / 4096);
    assertClean(image);
    withMount(image, "ro", (mounted) => {
      const stat = statSync(join(mounted, "dense"));
      assert.deepEqual([stat.size, stat.blocks >= FILE_BYTES / 512], [FILE_BYTES, true]);
      const fd = openSync(join(mounted, "dense"), "r");
      const bytes = Buffer.alloc(20);
      for (let piece = 0; piece < FILE_BYTES / MIB; piece += 64) {
        readSync(fd, bytes, 0, bytes.length, piece * MIB + 12_340);
        assert.equal(bytes.toString().replace(/f*$/, ""), `fffffmark ${piece}.`);
      }
      closeSync(fd);
    });
  });
});

/** The same size as a base-256 number of the header, as GNU tar writes it. */
test("a size in base 256 is taken as well, and a file of 1 TiB that is one hole takes no room", { skip: skipMount }, () => {
  const size = 2 ** 40;
  const map = tarHeader({ name: "hole", flag: "S", size: 0 });
  map.write("00000000000\x0000000000000\0", 386, "latin1");
  map.set([0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0], 483);
  withScratch((scratch) => {
    const image = join(scratch, "image");
    buildImage(image, [Buffer.concat([sealHeader(map), Buffer.alloc(1024)])]);
    assertClean(image);
    withMount(image, "ro", (mounted) => {
      const stat = statSync(join(mounted, "hole"));
      assert.deepEqual([stat.size, stat.blocks], [size, 0]);
    });
  });
});
