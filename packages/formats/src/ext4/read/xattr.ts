/** Extended attributes in the inode and in a block: Documentation/filesystems/ext4/attributes.rst. */
import { crc32c, crc32cWord } from "../disk/crc32c.ts";
import type { RawName } from "../../tar/index.ts";
import { decodeAcl } from "./acl.ts";
import { readRuns } from "./content.ts";
import { Ext4ReadError } from "./errors.ts";
import { FLAGS, xattrsAt } from "./inode.ts";
import type { Ext4Inode } from "./inode.ts";
import { MAX_XATTR_BYTES } from "./limits.ts";
import type { Meter } from "./limits.ts";
import type { Volume } from "./volume.ts";

export interface Xattr {
  /** In full: "user.x", "security.capability". Raw bytes, one character each. */
  readonly name: RawName;
  /** As programs see it: ACLs in the kernel's form, not the disk's. */
  readonly value: Uint8Array;
}

const MAGIC = 0xea02_0000;
const BLOCK_HEADER_BYTES = 32;
const ENTRY_BYTES = 16;
const END_BYTES = 4;
/** Thousands of entries fit into one block, which any number of inodes can share: each counts as so much that is read. */
const ENTRY_COST_BYTES = 128;
const SYSTEM = 7;
const INLINE_DATA = "data";

/** Names by index, without what only the file system itself sees (7: inline data; 9: encryption). The kernel lists no others. */
const PREFIXES: ReadonlyMap<number, string> = new Map([
  [1, "user."],
  [2, "system.posix_acl_access"],
  [3, "system.posix_acl_default"],
  [4, "trusted."],
  [6, "security."],
]);
const ACLS: ReadonlySet<number> = new Set([2, 3]);

interface DiskEntry {
  readonly index: number;
  readonly suffix: RawName;
  readonly valueInode: number;
  /** Empty where the value has an inode of its own. */
  readonly value: Buffer;
  readonly valueBytes: number;
}

const NONE: readonly never[] = [];

const align4 = (length: number): number => Math.ceil(length / 4) * 4;

const refuse = (inode: Ext4Inode, what: string): Ext4ReadError =>
  new Ext4ReadError("XATTR", `the extended attributes of inode ${inode.number} ${what}`);

/** Entries from `start` on, up to four zero bytes; values lie behind them, at offsets from `base`. */
const parseEntries = (inode: Ext4Inode, bytes: Buffer, at: { readonly start: number; readonly base: number }): DiskEntry[] => {
  const heads: number[] = [];
  let next = at.start;
  for (;;) {
    if (next + END_BYTES > bytes.length) throw refuse(inode, "have no end");
    if (bytes.readUInt32LE(next) === 0) break;
    if (next + ENTRY_BYTES > bytes.length) throw refuse(inode, "end inside an entry");
    heads.push(next);
    next += align4(ENTRY_BYTES + bytes.readUInt8(next));
  }
  const valuesFrom = next + END_BYTES;
  return heads.map((head) => {
    const suffix = bytes.toString("latin1", head + ENTRY_BYTES, head + ENTRY_BYTES + bytes.readUInt8(head));
    if (suffix.includes("\0")) throw refuse(inode, "have a name with a zero byte");
    const valueInode = bytes.readUInt32LE(head + 4);
    const valueBytes = bytes.readUInt32LE(head + 8);
    const from = at.base + bytes.readUInt16LE(head + 2);
    const isHere = valueInode === 0 && valueBytes > 0;
    if (isHere && (from < valuesFrom || from + valueBytes > bytes.length)) throw refuse(inode, "have a value out of its place");
    const value = isHere ? bytes.subarray(from, from + valueBytes) : Buffer.alloc(0);
    return { index: bytes.readUInt8(head + 1), suffix, valueInode, value, valueBytes };
  });
};

const inInode = (inode: Ext4Inode): readonly DiskEntry[] => {
  const start = xattrsAt(inode.raw);
  if (start + END_BYTES > inode.raw.length || inode.raw.readUInt32LE(start) !== MAGIC) return NONE;
  return parseEntries(inode, inode.raw, { start: start + END_BYTES, base: start + END_BYTES });
};

const verifyBlock = (volume: Volume, bytes: Buffer, block: number): void => {
  const seed = volume.superblock.checksumSeed;
  if (seed === null) return;
  const numbered = crc32cWord(crc32cWord(seed, block % 2 ** 32), Math.floor(block / 2 ** 32));
  const head = crc32cWord(crc32c(numbered, bytes, { start: 0, end: 16 }), 0);
  if (crc32c(head, bytes, { start: 20, end: bytes.length }) !== bytes.readUInt32LE(16))
    throw new Ext4ReadError("CHECKSUM", `block ${block}, of extended attributes, has a wrong checksum`);
};

const inBlock = (volume: Volume, inode: Ext4Inode, meter: Meter): readonly DiskEntry[] => {
  const is64 = volume.superblock.descriptorBytes > 32;
  const block = inode.raw.readUInt32LE(0x68) + (is64 ? inode.raw.readUInt16LE(0x76) * 2 ** 32 : 0);
  if (block === 0) return NONE;
  if (block <= volume.superblock.firstDataBlock || block >= volume.superblock.blockCount)
    throw refuse(inode, `lie at block ${block}, which is out of the file system`);
  meter.metadata(volume.superblock.blockBytes);
  const bytes = volume.medium.block(block);
  if (bytes.readUInt32LE(0) !== MAGIC || bytes.readUInt32LE(8) !== 1) throw refuse(inode, `lie at block ${block}, which holds none`);
  verifyBlock(volume, bytes, block);
  return parseEntries(inode, bytes, { start: BLOCK_HEADER_BYTES, base: 0 });
};

/** A value in an inode of its own (ea_inode). */
const valueFromInode = (volume: Volume, { inode, meter }: { inode: Ext4Inode; meter: Meter }, entry: DiskEntry): Buffer => {
  if (entry.valueBytes > MAX_XATTR_BYTES)
    throw new Ext4ReadError("LIMIT", `inode ${inode.number} has an attribute of ${entry.valueBytes} bytes`);
  const holder = volume.inode(entry.valueInode);
  const isValue = (holder.flags & FLAGS.xattrValue) !== 0 && holder.type === "file" && holder.sizeBytes === entry.valueBytes;
  if (!isValue) throw refuse(inode, `have a value in inode ${holder.number}, which is none`);
  meter.metadata(entry.valueBytes);
  const value = Buffer.alloc(entry.valueBytes);
  for (const { offset, bytes } of readRuns(volume, holder, meter)) value.set(bytes, offset);
  return value;
};

/** All attributes that programs can see: those in the inode, then those in the block. Throws Ext4ReadError. */
export const readXattrs = (volume: Volume, inode: Ext4Inode, meter: Meter): readonly Xattr[] => {
  const found = new Map<RawName, Xattr>();
  const entries = [...inInode(inode), ...inBlock(volume, inode, meter)];
  if (entries.length === 0) return NONE;
  meter.metadata(entries.length * ENTRY_COST_BYTES);
  for (const entry of entries) {
    const prefix = PREFIXES.get(entry.index);
    if (prefix === undefined) continue;
    const isAcl = ACLS.has(entry.index);
    if (isAcl !== (entry.suffix === "")) throw refuse(inode, `have an impossible name of the kind ${prefix}`);
    const name = `${prefix}${entry.suffix}`;
    if (found.has(name)) throw refuse(inode, `have ${name} twice`);
    const stored = entry.valueInode === 0 ? entry.value : valueFromInode(volume, { inode, meter }, entry);
    found.set(name, { name, value: isAcl ? decodeAcl(stored, inode.number) : Buffer.from(stored) });
  }
  return [...found.values()];
};

/** What of an inode's inline data has no room in i_block. Throws Ext4ReadError XATTR. */
export const inlineTail = (inode: Ext4Inode): Buffer =>
  inInode(inode).find(({ index, suffix }) => index === SYSTEM && suffix === INLINE_DATA)?.value ?? Buffer.alloc(0);
