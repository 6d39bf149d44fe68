import { Ext4Error } from "../errors.ts";
import { BLOCK_BYTES } from "./constants.ts";
import { crc32c, crc32cWord } from "./crc32c.ts";
import { encodeDirectoryBlock, splitEntries, writeEntry } from "./directory.ts";
import type { DirectoryEntry } from "./directory.ts";
import { hashName } from "./name-hash.ts";

/** A directory that fits into so many blocks is as fast without an index. */
const LINEAR_BLOCKS = 2;
/** With a hash of 31 bits in one number that is exact. */
const MAX_ENTRIES = 2 ** 22;

const HASH_HALF_MD4 = 1;
const INFO_BYTES = 8;
const TAIL_BYTES = 8;
const RECORD_BYTES = 8;
/** Behind "." and "..", which every reader understands, and the index's own description. */
const ROOT_RECORDS_AT = 32;
/** Behind an unused entry that spans the block. */
const NODE_RECORDS_AT = 8;
const recordsFrom = (at: number): number => Math.floor((BLOCK_BYTES - TAIL_BYTES - at) / RECORD_BYTES);
const MAX_ROOT_RECORDS = recordsFrom(ROOT_RECORDS_AT);
const MAX_NODE_RECORDS = recordsFrom(NODE_RECORDS_AT);

/** A subtree: what it holds hashes to `hash` or more. An odd hash says that the block before it holds names of the same hash too. */
interface Branch {
  readonly hash: number;
  readonly block: number;
}

export interface DirectoryLayout {
  readonly blocks: number;
  readonly indexed: boolean;
}

export interface DirectorySeeds {
  /** Starts the checksums of the directory's inode. */
  readonly inode: number;
  /** Starts the hashes of names; from `readHashSeed`. */
  readonly hash: Int32Array;
}

/** Writes an index block's records behind its first `at` bytes, and its checksum. The first record's hash is where the counts stand. */
const writeBranches = (block: Buffer, branches: readonly Branch[], place: { at: number; inodeSeed: number }): Buffer => {
  const max = recordsFrom(place.at);
  for (const [index, branch] of branches.entries()) {
    const at = place.at + index * RECORD_BYTES;
    if (index > 0) block.writeUInt32LE(branch.hash, at);
    block.writeUInt32LE(branch.block, at + 4);
  }
  block.writeUInt16LE(max, place.at);
  block.writeUInt16LE(branches.length, place.at + 2);
  const used = place.at + branches.length * RECORD_BYTES;
  const records = crc32c(place.inodeSeed, block, { start: 0, end: used });
  block.writeUInt32LE(crc32cWord(crc32cWord(records, 0), 0), place.at + max * RECORD_BYTES + 4);
  return block;
};

const encodeRoot = (dots: readonly DirectoryEntry[], branches: readonly Branch[], root: { levels: number; inodeSeed: number }): Buffer => {
  const block = Buffer.alloc(BLOCK_BYTES);
  const [self, parent] = dots;
  if (self !== undefined) writeEntry(block, self, { at: 0, length: 12 });
  if (parent !== undefined) writeEntry(block, parent, { at: 12, length: BLOCK_BYTES - 12 });
  block.writeUInt8(HASH_HALF_MD4, 28);
  block.writeUInt8(INFO_BYTES, 29);
  block.writeUInt8(root.levels, 30);
  return writeBranches(block, branches, { at: ROOT_RECORDS_AT, inodeSeed: root.inodeSeed });
};

const encodeNode = (branches: readonly Branch[], inodeSeed: number): Buffer => {
  const block = Buffer.alloc(BLOCK_BYTES);
  block.writeUInt16LE(BLOCK_BYTES, 4);
  return writeBranches(block, branches, { at: NODE_RECORDS_AT, inodeSeed });
};

/** The entries ordered by their hash, and in their own order where it is the same; and the hashes. */
const sortByHash = (
  entries: readonly DirectoryEntry[],
  hashSeed: Int32Array,
): { sorted: readonly DirectoryEntry[]; hashes: Float64Array } => {
  if (entries.length > MAX_ENTRIES) throw new Ext4Error("TOO_MANY_ENTRIES", `a directory has more than ${MAX_ENTRIES} entries`);
  const keys = Float64Array.from(entries, ({ name }, index) => (hashName(name, hashSeed) / 2) * MAX_ENTRIES + index).sort();
  const sorted: DirectoryEntry[] = [];
  for (const key of keys) {
    const entry = entries[key % MAX_ENTRIES];
    if (entry !== undefined) sorted.push(entry);
  }
  return { sorted, hashes: keys.map((key) => Math.floor(key / MAX_ENTRIES) * 2) };
};

/** The smallest hash of each leaf; odd where names of one hash are on both sides of its start. */
const leafHashes = (starts: readonly number[], hashes: Float64Array): number[] =>
  starts.slice(0, -1).map((start, leaf) => {
    const hash = hashes[start] ?? 0;
    if (leaf === 0) return 0;
    return hashes[start - 1] === hash ? hash + 1 : hash;
  });

/**
 * Writes a directory whose entries are in any order; "." and ".." are the first two. Small ones are packed in their order; larger ones get
 * an index by hash (one level, or two) in front of their blocks. `append` takes each block in turn. Throws Ext4Error TOO_MANY_ENTRIES.
 */
export const writeDirectory = (
  entries: readonly DirectoryEntry[],
  seeds: DirectorySeeds,
  append: (block: Uint8Array) => void,
): DirectoryLayout => {
  const starts = splitEntries(entries);
  if (starts.length - 1 > LINEAR_BLOCKS) return writeHashed(entries, seeds, append);
  appendBlocks(entries, starts, (part) => append(encodeDirectoryBlock(part, seeds.inode)));
  return { blocks: starts.length - 1, indexed: false };
};

const appendBlocks = (
  entries: readonly DirectoryEntry[],
  starts: readonly number[],
  write: (part: readonly DirectoryEntry[]) => void,
): void => {
  for (let block = 0; block + 1 < starts.length; block += 1) write(entries.slice(starts[block], starts[block + 1]));
};

const writeHashed = (entries: readonly DirectoryEntry[], seeds: DirectorySeeds, append: (block: Uint8Array) => void): DirectoryLayout => {
  const { sorted, hashes } = sortByHash(entries.slice(2), seeds.hash);
  const starts = splitEntries(sorted);
  const leaves = leafHashes(starts, hashes);
  const nodes = leaves.length > MAX_ROOT_RECORDS ? Math.ceil(leaves.length / MAX_NODE_RECORDS) : 0;
  if (nodes > MAX_ROOT_RECORDS) throw new Ext4Error("TOO_MANY_ENTRIES", "a directory has more entries than an index of two levels holds");
  const branches = leaves.map((hash, leaf) => ({ hash, block: 1 + nodes + leaf }));
  const parts = Array.from({ length: nodes }, (_, node) => branches.slice(node * MAX_NODE_RECORDS, (node + 1) * MAX_NODE_RECORDS));
  const top = nodes === 0 ? branches : parts.map((part, node) => ({ hash: part[0]?.hash ?? 0, block: 1 + node }));
  append(encodeRoot(entries.slice(0, 2), top, { levels: nodes === 0 ? 0 : 1, inodeSeed: seeds.inode }));
  for (const part of parts) append(encodeNode(part, seeds.inode));
  appendBlocks(sorted, starts, (part) => append(encodeDirectoryBlock(part, seeds.inode)));
  return { blocks: 1 + nodes + leaves.length, indexed: true };
};
