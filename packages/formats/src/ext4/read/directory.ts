/** Directories, read from front to back whether they have an index or not: Documentation/filesystems/ext4/directory.rst. */
import { crc32c, crc32cWord } from "../disk/crc32c.ts";
import type { RawName } from "../../tar/index.ts";
import { fileRuns } from "./block-map.ts";
import { Ext4ReadError } from "./errors.ts";
import { FLAGS, inodeSeed } from "./inode.ts";
import type { Ext4Inode } from "./inode.ts";
import { inlineEntries, isInline } from "./inline.ts";
import type { Meter } from "./limits.ts";
import type { Volume } from "./volume.ts";

/** A name in a directory, and where it leads. */
export interface NamedInode {
  readonly name: RawName;
  readonly inode: number;
}

const HEADER_BYTES = 8;
const SMALLEST_ENTRY_BYTES = 12;
const TAIL_BYTES = 12;
const TAIL_TYPE = 0xde;
const INDEX_RECORD_BYTES = 8;
const INDEX_TAIL_BYTES = 8;
/** Behind "." and ".." with the index's description, and behind the one unused entry of an inner index block. */
const ROOT_RECORDS_AT = 32;
const NODE_RECORDS_AT = 8;
/** The directories that the kernel makes are at most 4 GiB large, its largest blocks 64 KiB. */
const LARGE_BLOCK_BYTES = 65_536;

interface DirectoryBlock {
  readonly inode: Ext4Inode;
  readonly bytes: Buffer;
  /** Its place in the directory. */
  readonly index: number;
  /** For messages. */
  readonly where: string;
}

const refuse = ({ where }: DirectoryBlock, what: string): Ext4ReadError => new Ext4ReadError("DIRECTORY", `${where} ${what}`);

/** Sixteen bits hold the length of any entry but one that spans a block of 64 KiB. */
const entryBytesAt = (bytes: Buffer, at: number): number => {
  const stored = bytes.readUInt16LE(at + 4);
  if (bytes.length < LARGE_BLOCK_BYTES) return stored;
  return stored === 0 || stored === LARGE_BLOCK_BYTES - 1 ? LARGE_BLOCK_BYTES : (stored & 0xfffc) | ((stored & 3) << 16);
};

/** Where the entries of a block end: in front of its checksum, which looks like an unused entry. */
const hasTail = (bytes: Buffer): boolean => {
  const at = bytes.length - TAIL_BYTES;
  return bytes.readUInt32LE(at) === 0 && bytes.readUInt16LE(at + 4) === TAIL_BYTES && bytes.readUInt16LE(at + 6) === TAIL_TYPE << 8;
};

/**
 * Where the records of an index block begin; null for a block of names. The first block of an indexed directory is the index's root,
 * which may end in what was once the tail of names.
 */
const indexRecordsAt = ({ inode, bytes, index }: DirectoryBlock): number | null => {
  if ((inode.flags & FLAGS.indexed) === 0) return null;
  const first = entryBytesAt(bytes, 0);
  if (index > 0) return first === bytes.length ? NODE_RECORDS_AT : null;
  const isRoot = first === SMALLEST_ENTRY_BYTES && entryBytesAt(bytes, 12) === bytes.length - 12;
  return isRoot ? ROOT_RECORDS_AT : null;
};

const verifyChecksum = (block: DirectoryBlock, seed: number): void => {
  const { bytes } = block;
  const wrong = (): Ext4ReadError => new Ext4ReadError("CHECKSUM", `${block.where} has a wrong checksum`);
  const recordsAt = indexRecordsAt(block);
  if (recordsAt === null) {
    const end = bytes.length - TAIL_BYTES;
    if (!hasTail(bytes)) throw new Ext4ReadError("CHECKSUM", `${block.where} has no checksum`);
    if (crc32c(seed, bytes, { start: 0, end }) !== bytes.readUInt32LE(bytes.length - 4)) throw wrong();
    return;
  }
  const [max, used] = [bytes.readUInt16LE(recordsAt), bytes.readUInt16LE(recordsAt + 2)];
  const tailAt = recordsAt + max * INDEX_RECORD_BYTES;
  if (used > max || tailAt + INDEX_TAIL_BYTES > bytes.length) throw refuse(block, `is an index with ${used} of ${max} records`);
  const records = crc32c(seed, bytes, { start: 0, end: recordsAt + used * INDEX_RECORD_BYTES });
  if (crc32cWord(crc32cWord(records, bytes.readUInt32LE(tailAt)), 0) !== bytes.readUInt32LE(tailAt + 4)) throw wrong();
};

/** The entries in use of one block, in its order, "." and ".." included. */
function* entriesOf(block: DirectoryBlock, inodeCount: number): Generator<NamedInode> {
  const { bytes } = block;
  for (let at = 0; at < bytes.length;) {
    if (at + HEADER_BYTES > bytes.length) throw refuse(block, "ends inside an entry");
    const length = entryBytesAt(bytes, at);
    const nameBytes = bytes.readUInt8(at + 6);
    const end = at + length;
    if (length < SMALLEST_ENTRY_BYTES || length % 4 !== 0 || end > bytes.length || HEADER_BYTES + nameBytes > length)
      throw refuse(block, `has an entry of ${length} bytes at ${at}`);
    const inode = bytes.readUInt32LE(at);
    if (inode > inodeCount) throw refuse(block, `has an entry that leads to inode ${inode}, of ${inodeCount}`);
    if (inode !== 0) yield { name: bytes.toString("latin1", at + HEADER_BYTES, at + HEADER_BYTES + nameBytes), inode };
    at = end;
  }
}

const checkName = (block: DirectoryBlock, { name }: NamedInode): void => {
  if (name === "" || name.includes("/") || name.includes("\0"))
    throw refuse(block, "has a name that is empty or has a slash or a zero byte");
};

/** Stands for each block of the directory. Throws Ext4ReadError. */
function* blocksOf(volume: Volume, inode: Ext4Inode, meter: Meter): Generator<DirectoryBlock> {
  const { blockBytes } = volume.superblock;
  const seed = inodeSeed(volume.superblock, inode);
  let next = 0;
  for (const run of fileRuns(volume, inode, meter)) {
    if (run.logical !== next || run.unwritten) break;
    for (let index = 0; index < run.count; index += 1) {
      meter.metadata(blockBytes);
      const bytes = volume.medium.block(run.physical + index);
      const block = { inode, bytes, index: next + index, where: `block ${run.physical + index}, of directory inode ${inode.number},` };
      if (seed !== null) verifyChecksum(block, seed);
      yield block;
    }
    next += run.count;
  }
  if (next * blockBytes !== inode.sizeBytes || next === 0)
    throw new Ext4ReadError("DIRECTORY", `directory inode ${inode.number} has a hole, or an impossible size of ${inode.sizeBytes} bytes`);
}

const isDot = (name: RawName): boolean => name === "." || name === "..";

/** The entries of a directory, checked, in the order of the disk, without "." and "..". Throws Ext4ReadError. */
export function* readEntries(volume: Volume, inode: Ext4Inode, meter: Meter): Generator<NamedInode> {
  const { inodeCount } = volume.superblock;
  if (inode.type !== "directory") throw new Ext4ReadError("DIRECTORY", `inode ${inode.number} is a ${inode.type}, no directory`);
  const inline = isInline(inode);
  const blocks = inline
    ? inlineEntries(inode).map((bytes): DirectoryBlock => ({ inode, bytes, index: 0, where: `directory inode ${inode.number}` }))
    : blocksOf(volume, inode, meter);
  // "." and "..", in this order, begin every directory that has blocks
  let dots = inline ? 2 : 0;
  for (const block of blocks) {
    for (const entry of entriesOf(block, inodeCount)) {
      if (dots < 2) {
        if (entry.name !== (dots === 0 ? "." : "..") || (dots === 0 && entry.inode !== inode.number))
          throw refuse(block, "does not begin with the directory itself and its parent");
        dots += 1;
        continue;
      }
      if (isDot(entry.name)) throw refuse(block, `has a second "${entry.name}"`);
      checkName(block, entry);
      yield entry;
    }
  }
  if (dots < 2) throw new Ext4ReadError("DIRECTORY", `directory inode ${inode.number} does not begin with itself and its parent`);
}
