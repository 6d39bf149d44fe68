/** From a file's blocks to the disk's: extents (Documentation/filesystems/ext4/ifork.rst) and indirect blocks (blockmap.rst). */
import { crc32c } from "../disk/crc32c.ts";
import { Ext4ReadError } from "./errors.ts";
import { FLAGS, I_BLOCK_AT, I_BLOCK_BYTES, inodeSeed } from "./inode.ts";
import type { Ext4Inode } from "./inode.ts";
import { MAX_EXTENT_DEPTH } from "./limits.ts";
import type { Meter } from "./limits.ts";
import type { Volume } from "./volume.ts";

/** `count` blocks of a file from block `logical` on lie at block `physical` of the disk; unwritten ones read as zeros. */
export interface Run {
  readonly logical: number;
  readonly physical: number;
  readonly count: number;
  readonly unwritten: boolean;
}

/** What a map is read for: the file, the file's blocks that are of interest, and who counts. */
interface MapReading {
  readonly volume: Volume;
  readonly inode: Ext4Inode;
  readonly endBlock: number;
  readonly meter: Meter;
}

const EXTENT_MAGIC = 0xf30a;
const HEADER_BYTES = 12;
const RECORD_BYTES = 12;
const MAX_WRITTEN_BLOCKS = 32_768;
const MAX_LOGICAL = 2 ** 32;

const refuse = (inode: Ext4Inode, what: string): Ext4ReadError =>
  new Ext4ReadError("BLOCK_MAP", `the block map of inode ${inode.number} ${what}`);

const checkRange = ({ volume, inode }: MapReading, physical: number, count: number): void => {
  const { firstDataBlock, blockCount } = volume.superblock;
  if (physical <= firstDataBlock || physical + count > blockCount)
    throw refuse(inode, `leads to ${count} blocks at ${physical}, which are out of the file system`);
};

const readMapBlock = (reading: MapReading, block: number): Buffer => {
  checkRange(reading, block, 1);
  reading.meter.metadata(reading.volume.superblock.blockBytes);
  return reading.volume.medium.block(block);
};

/** The part of a file that a node of the tree is about, and how many levels are below it. */
interface NodePlace {
  readonly depth: number;
  readonly from: number;
  readonly to: number;
}

/** Checks a node's header and returns the number of its records. */
const checkNode = (node: Buffer, inode: Ext4Inode, depth: number): number => {
  if (node.readUInt16LE(0) !== EXTENT_MAGIC) throw refuse(inode, "has a node that is none");
  const [entries, max] = [node.readUInt16LE(2), node.readUInt16LE(4)];
  if (max > Math.floor((node.length - HEADER_BYTES) / RECORD_BYTES) || entries > max || (entries === 0 && depth > 0))
    throw refuse(inode, `has a node with ${entries} of ${max} records`);
  if (node.readUInt16LE(6) !== depth) throw refuse(inode, `has a node of depth ${node.readUInt16LE(6)}, where ${depth} belongs`);
  return entries;
};

const readNode = (reading: MapReading, block: number, depth: number): Buffer => {
  const { volume, inode } = reading;
  const node = readMapBlock(reading, block);
  checkNode(node, inode, depth);
  const seed = inodeSeed(volume.superblock, inode);
  const tail = HEADER_BYTES + node.readUInt16LE(4) * RECORD_BYTES;
  if (seed !== null && (tail + 4 > node.length || crc32c(seed, node, { start: 0, end: tail }) !== node.readUInt32LE(tail)))
    throw new Ext4ReadError("CHECKSUM", `block ${block}, of the block map of inode ${inode.number}, has a wrong checksum`);
  return node;
};

function* leafRuns(reading: MapReading, node: Buffer, place: NodePlace): Generator<Run> {
  const { inode, endBlock } = reading;
  let next = place.from;
  const entries = node.readUInt16LE(2);
  for (let index = 0; index < entries; index += 1) {
    const at = HEADER_BYTES + index * RECORD_BYTES;
    const logical = node.readUInt32LE(at);
    const length = node.readUInt16LE(at + 4);
    const unwritten = length > MAX_WRITTEN_BLOCKS;
    const count = unwritten ? length - MAX_WRITTEN_BLOCKS : length;
    const physical = node.readUInt32LE(at + 8) + node.readUInt16LE(at + 6) * 2 ** 32;
    if (count === 0 || logical < next || logical + count > place.to)
      throw refuse(inode, `has an extent of ${count} blocks from ${logical} on that overlaps another or is out of its place`);
    checkRange(reading, physical, count);
    next = logical + count;
    if (logical >= endBlock) return;
    yield { logical, physical, count: Math.min(count, endBlock - logical), unwritten };
  }
}

function* nodeRuns(reading: MapReading, node: Buffer, place: NodePlace): Generator<Run> {
  if (place.depth === 0) {
    yield* leafRuns(reading, node, place);
    return;
  }
  let from = place.from;
  const entries = node.readUInt16LE(2);
  for (let index = 0; index < entries; index += 1) {
    const at = HEADER_BYTES + index * RECORD_BYTES;
    const logical = node.readUInt32LE(at);
    const to = index + 1 < entries ? node.readUInt32LE(at + RECORD_BYTES) : place.to;
    if (logical < from || to <= logical || to > place.to)
      throw refuse(reading.inode, `has a record for block ${logical} that overlaps another or is out of its place`);
    from = to;
    if (logical >= reading.endBlock) return;
    const child = readNode(reading, node.readUInt32LE(at + 4) + node.readUInt16LE(at + 8) * 2 ** 32, place.depth - 1);
    yield* nodeRuns(reading, child, { depth: place.depth - 1, from: logical, to });
  }
}

const extentRuns = (reading: MapReading, root: Buffer): Generator<Run> => {
  const depth = root.readUInt16LE(6);
  if (depth > MAX_EXTENT_DEPTH) throw refuse(reading.inode, `is ${depth} levels deep`);
  checkNode(root, reading.inode, depth);
  return nodeRuns(reading, root, { depth, from: 0, to: MAX_LOGICAL });
};

const DIRECT_BLOCKS = 12;

/** Single blocks of the map in the file's order. `levels`: of indirect blocks between `pointers` and the data. */
function* pointedBlocks(
  reading: MapReading,
  pointers: Buffer,
  place: { readonly levels: number; readonly from: number },
): Generator<{ logical: number; physical: number }> {
  const perBlock = reading.volume.superblock.blockBytes / 4;
  const span = perBlock ** place.levels;
  let logical = place.from;
  for (let at = 0; at < pointers.length && logical < reading.endBlock; at += 4, logical += span) {
    const physical = pointers.readUInt32LE(at);
    if (physical === 0) continue;
    if (place.levels > 0) {
      yield* pointedBlocks(reading, readMapBlock(reading, physical), { levels: place.levels - 1, from: logical });
    } else {
      checkRange(reading, physical, 1);
      yield { logical, physical };
    }
  }
}

function* allPointedBlocks(reading: MapReading, root: Buffer): Generator<{ logical: number; physical: number }> {
  const perBlock = reading.volume.superblock.blockBytes / 4;
  yield* pointedBlocks(reading, root.subarray(0, DIRECT_BLOCKS * 4), { levels: 0, from: 0 });
  let from = DIRECT_BLOCKS;
  for (let levels = 1; levels <= 3; levels += 1) {
    const at = (DIRECT_BLOCKS + levels - 1) * 4;
    yield* pointedBlocks(reading, root.subarray(at, at + 4), { levels, from });
    from += perBlock ** levels;
  }
}

/** Neighbours in the file that are neighbours on the disk make one run. */
function* indirectRuns(reading: MapReading, root: Buffer): Generator<Run> {
  let [first, at, count] = [0, 0, 0];
  for (const { logical, physical } of allPointedBlocks(reading, root)) {
    if (count > 0 && first + count === logical && at + count === physical) {
      count += 1;
      continue;
    }
    if (count > 0) yield { logical: first, physical: at, count, unwritten: false };
    [first, at, count] = [logical, physical, 1];
  }
  if (count > 0) yield { logical: first, physical: at, count, unwritten: false };
}

/** Where a file's bytes lie, in order and without overlaps, up to its size. What no run covers is a hole. Throws Ext4ReadError. */
export const fileRuns = (volume: Volume, inode: Ext4Inode, meter: Meter): Generator<Run> => {
  const endBlock = Math.ceil(inode.sizeBytes / volume.superblock.blockBytes);
  const reading: MapReading = { volume, inode, endBlock, meter };
  const root = inode.raw.subarray(I_BLOCK_AT, I_BLOCK_AT + I_BLOCK_BYTES);
  return (inode.flags & FLAGS.extents) === 0 ? indirectRuns(reading, root) : extentRuns(reading, root);
};
