/** A directory of very many entries, in a short run and in a long one. */
import assert from "node:assert/strict";
import { lstatSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { tarHeader } from "../tar/tar-writer.fixture.ts";
import { assertClean, buildImage, withMount, withScratch } from "./image.fixture.ts";

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

/** What a process may have that has built it, and what the image may take, for each entry: its inode of 256 bytes and its name. */
const PEAK_BYTES_EACH = 2300;
const PEAK_BYTES = 250 * MIB;
const IMAGE_BYTES_EACH = 420;

/** Throws an AssertionError unless it is built in the memory that it may take, e2fsck finds nothing, and the kernel finds each 7th name and no other. */
export const requireLargeDirectory = (count: number): { readonly peakMib: number } =>
  withScratch((scratch) => {
    const image = join(scratch, "image");
    const summary = buildImage(image, [() => manyFiles(count)], { limits: { maxEntries: 2 * count } });
    assert.equal(summary.inodes, count + 2);
    assert.ok(statSync(image).blocks * 512 < count * IMAGE_BYTES_EACH);
    const peakBytes = process.resourceUsage().maxRSS * 1024;
    assert.ok(peakBytes < PEAK_BYTES + count * PEAK_BYTES_EACH, `${Math.round(peakBytes / MIB)} MiB`);
    assertClean(image);
    withMount(image, "ro", (mounted) => {
      assert.equal(new Set(readdirSync(join(mounted, "many"))).size, count);
      for (let index = 0; index < count; index += 7) lstatSync(`${mounted}/many/${numbered(index)}`);
      assert.throws(() => lstatSync(`${mounted}/many/${numbered(count)}`), { code: "ENOENT" });
    });
    return { peakMib: Math.round(peakBytes / MIB) };
  });
