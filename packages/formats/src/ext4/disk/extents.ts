import { BLOCK_BYTES } from "./constants.ts";
import { crc32c } from "./crc32c.ts";

/** `count` blocks of a file from block `logical` on lie at block `physical` of the disk. */
export interface Extent {
  readonly logical: number;
  readonly physical: number;
  readonly count: number;
}

/** A longer extent would be taken for one that is allocated but not written. */
export const MAX_EXTENT_BLOCKS = 32_768;
export const I_BLOCK_BYTES = 60;

const MAGIC = 0xf30a;
const HEADER_BYTES = 12;
const RECORD_BYTES = 12;
const RECORDS_IN_INODE = 4;
const RECORDS_IN_BLOCK = Math.floor((BLOCK_BYTES - HEADER_BYTES) / RECORD_BYTES);

/** A record of an inner node: the subtree in block `physical` starts at file block `logical`. */
interface Index {
  readonly logical: number;
  readonly physical: number;
}

const writeHeader = (out: Buffer, header: { entries: number; max: number; depth: number }): void => {
  out.writeUInt16LE(MAGIC, 0);
  out.writeUInt16LE(header.entries, 2);
  out.writeUInt16LE(header.max, 4);
  out.writeUInt16LE(header.depth, 6);
};

const writeExtents = (out: Buffer, extents: readonly Extent[]): void => {
  for (const [index, extent] of extents.entries()) {
    const at = HEADER_BYTES + index * RECORD_BYTES;
    out.writeUInt32LE(extent.logical, at);
    out.writeUInt16LE(extent.count, at + 4);
    out.writeUInt16LE(Math.floor(extent.physical / 2 ** 32), at + 6);
    out.writeUInt32LE(extent.physical % 2 ** 32, at + 8);
  }
};

const writeIndexes = (out: Buffer, indexes: readonly Index[]): void => {
  for (const [index, record] of indexes.entries()) {
    const at = HEADER_BYTES + index * RECORD_BYTES;
    out.writeUInt32LE(record.logical, at);
    out.writeUInt32LE(record.physical % 2 ** 32, at + 4);
    out.writeUInt16LE(Math.floor(record.physical / 2 ** 32), at + 8);
  }
};

/** Ends a block of the tree with its checksum, right behind the last record it has room for. */
const sealBlock = (out: Buffer, inodeSeed: number): Buffer => {
  const tail = HEADER_BYTES + RECORDS_IN_BLOCK * RECORD_BYTES;
  out.writeUInt32LE(crc32c(inodeSeed, out, { start: 0, end: tail }), tail);
  return out;
};

const chunks = <T>(items: readonly T[], length: number): T[][] =>
  Array.from({ length: Math.ceil(items.length / length) }, (_, index) => items.slice(index * length, (index + 1) * length));

export interface ExtentTree {
  /** The 60 bytes for the inode. */
  readonly iBlock: Buffer;
  /** Blocks that the tree itself takes. */
  readonly treeBlocks: number;
}

/**
 * Builds the extent tree of a file, leaves first. `appendBlock` stores a block and returns its number;
 * `inodeSeed` starts the checksums of the inode the tree belongs to.
 */
export const buildExtentTree = (extents: readonly Extent[], inodeSeed: number, appendBlock: (block: Uint8Array) => number): ExtentTree => {
  const iBlock = Buffer.alloc(I_BLOCK_BYTES);
  if (extents.length <= RECORDS_IN_INODE) {
    writeHeader(iBlock, { entries: extents.length, max: RECORDS_IN_INODE, depth: 0 });
    writeExtents(iBlock, extents);
    return { iBlock, treeBlocks: 0 };
  }
  let treeBlocks = 0;
  const storeLevel = <T extends Index>(
    records: readonly T[],
    depth: number,
    write: (out: Buffer, records: readonly T[]) => void,
  ): Index[] =>
    chunks(records, RECORDS_IN_BLOCK).map((part) => {
      const out = Buffer.alloc(BLOCK_BYTES);
      writeHeader(out, { entries: part.length, max: RECORDS_IN_BLOCK, depth });
      write(out, part);
      treeBlocks += 1;
      return { logical: part[0]?.logical ?? 0, physical: appendBlock(sealBlock(out, inodeSeed)) };
    });
  let level = storeLevel(extents, 0, writeExtents);
  let depth = 1;
  for (; level.length > RECORDS_IN_INODE; depth += 1) level = storeLevel(level, depth, writeIndexes);
  writeHeader(iBlock, { entries: level.length, max: RECORDS_IN_INODE, depth });
  writeIndexes(iBlock, level);
  return { iBlock, treeBlocks };
};
