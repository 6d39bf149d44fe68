import assert from "node:assert/strict";
import { closeSync, openSync, readSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { paxRecord, sealHeader, tarEntry, tarHeader } from "../tar/tar-writer.fixture.ts";
import { assertClean, buildImage, skipMount, withMount, withScratch } from "./image.fixture.ts";
import { requireLargeDirectory } from "./large-directory.fixture.ts";

const MIB = 2 ** 20;

/** So many leaves that its index has two levels, as that of a million has: `npm run soak -- directory`. */
const ENTRIES = 250_000;

test(`a directory of ${ENTRIES} entries is built in memory that a laptop has, and the kernel finds each name`, { skip: skipMount }, () => {
  requireLargeDirectory(ENTRIES);
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
