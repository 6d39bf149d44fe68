import assert from "node:assert/strict";
import { test } from "node:test";
import { buildTar } from "../tar/tar-writer.fixture.ts";
import type { TarSpec } from "../tar/tar-writer.fixture.ts";
import { IDENTITY, LIMITS } from "./image.fixture.ts";
import { LayeredImage } from "./index.ts";

const BLOCK_BYTES = 4096;
const BITMAP_BLOCKS = 2;
const DESCRIPTOR_BLOCKS = 1;
const SUPERBLOCK_BYTES = 1024;
const INODE_BYTES = 256;
/** Inodes 1 to 10 are the file system's own; the root is one of them. */
const OWN_INODES = 10;

interface Written {
  readonly start: number;
  readonly bytes: Buffer;
}

/** What goes to the sink, in its order. */
const collect = (layers: readonly (readonly TarSpec[])[]): readonly Written[] => {
  const writes: Written[] = [];
  const sink = { write: (start: number, bytes: Uint8Array) => void writes.push({ start, bytes: Buffer.from(bytes) }) };
  const image = new LayeredImage({ identity: IDENTITY, limits: LIMITS, layerCount: layers.length }, sink);
  for (const [number, specs] of [...layers.entries()].reverse()) {
    const input = image.readLayer(number);
    input.write(buildTar(specs));
    input.end();
  }
  assert.deepEqual(image.layersToReadAgain(), []);
  image.finish();
  return writes;
};

const total = (writes: readonly Written[]): number => writes.reduce((sum, { bytes }) => sum + bytes.length, 0);

/** All that there is besides content, of an image of one group whose directories have a block each. */
const metadataBytes = ({ directories, inodes }: { directories: number; inodes: number }): number =>
  (directories + BITMAP_BLOCKS + DESCRIPTOR_BLOCKS) * BLOCK_BYTES + (OWN_INODES + inodes) * INODE_BYTES + SUPERBLOCK_BYTES;

const text = (bytes: number, letter: string): Buffer => Buffer.alloc(bytes, letter);
const directory = (path: string): TarSpec => ({ path, type: "directory" });

test("content is written once and metadata once, and what an upper layer hides and what is zero is not written at all", () => {
  const lower = [
    directory("d"),
    { path: "d/kept", content: text(3 * BLOCK_BYTES, "k") },
    { path: "d/replaced", content: text(50 * BLOCK_BYTES, "H") },
    { path: "d/gone", content: text(50 * BLOCK_BYTES, "H") },
    directory("tree"),
    { path: "tree/below", content: text(50 * BLOCK_BYTES, "H") },
    { path: "opaque/below", content: text(50 * BLOCK_BYTES, "H") },
  ];
  const upper = [
    { path: "d/replaced", content: text(100, "r") },
    { path: "d/.wh.gone" },
    { path: ".wh.tree" },
    { path: "opaque/.wh..wh..opq" },
    { path: "large", content: text(2_000_000, "l") },
    { path: "zeros", content: Buffer.alloc(4_000_000) },
    { path: "holes", content: Buffer.concat([text(BLOCK_BYTES, "h"), Buffer.alloc(20 * BLOCK_BYTES), text(1, "h")]) },
    { path: "linked", type: "hardlink" as const, link: "large" },
    { path: "short", type: "symlink" as const, link: "large" },
  ];
  const writes = collect([lower, upper]);
  // kept, replaced, large, holes; then the root, d and opaque; then kept, replaced, large, zeros, holes, short with the directories
  const contentBlocks = 3 + 1 + Math.ceil(2_000_000 / BLOCK_BYTES) + 2;
  assert.equal(total(writes), contentBlocks * BLOCK_BYTES + metadataBytes({ directories: 3, inodes: 8 }));
  assert.ok(writes.every(({ bytes }) => !bytes.includes("HHHH")));
});

test("no two writes overlap, and each begins behind the one before, but for what stands in front of the data", () => {
  const layer = Array.from({ length: 300 }, (_, index) => [
    { path: `f${index}/small`, content: text(index, "s") },
    { path: `f${index}/large`, content: text(index * 3000, "l") },
  ]).flat();
  const writes = collect([layer, [{ path: "f7/small", content: "other" }]]);
  const front = writes.slice(-2).map(({ start }) => start);
  assert.deepEqual(front, [BLOCK_BYTES, 1024]);
  let end = 0;
  for (const { start, bytes } of writes.slice(0, -2)) {
    assert.ok(start >= end, `the write at ${start} begins before ${end}`);
    end = start + bytes.length;
  }
});
