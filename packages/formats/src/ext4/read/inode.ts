/** Inodes: Documentation/filesystems/ext4/inodes.rst. */
import { MODE } from "../disk/constants.ts";
import type { NodeKind } from "../disk/constants.ts";
import { crc32c, crc32cWord } from "../disk/crc32c.ts";
import type { Timestamp } from "../disk/inode.ts";
import { Ext4ReadError } from "./errors.ts";
import { INCOMPAT } from "./features.ts";
import type { Superblock } from "./superblock.ts";

export type InodeType = NodeKind | "socket";

export interface Ext4Inode {
  readonly number: number;
  readonly type: InodeType;
  /** Permission bits with set-id and sticky, 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  /** Names that lead to it. Of a directory 1 where it has too many subdirectories to be counted. */
  readonly links: number;
  readonly mtime: Timestamp;
  readonly atime: Timestamp;
  readonly ctime: Timestamp;
  /** null where inodes have no room for it. */
  readonly crtime: Timestamp | null;
  /** 0:0 for everything but devices. */
  readonly rdev: { readonly major: number; readonly minor: number };
  /** As on the disk: 0x1000 indexed directory, 0x80000 extents, 0x10000000 inline data, … */
  readonly flags: number;
  readonly generation: number;
  /** The whole inode as on the disk, from which the rest is read; a view of what others see too. */
  readonly raw: Buffer;
}

export const FLAGS = {
  encrypted: 0x800,
  indexed: 0x1000,
  hugeFile: 0x4_0000,
  extents: 0x8_0000,
  xattrValue: 0x20_0000,
  inlineData: 0x1000_0000,
} as const;

export const I_BLOCK_AT = 0x28;
export const I_BLOCK_BYTES = 60;
/** The fields that every inode has; behind them an inode says itself how much follows. */
const OLD_INODE_BYTES = 128;
/** As large as the largest block. */
const MAX_INODE_BYTES = 65_536;
const FORMAT_MASK = 0o170_000;
const SOCKET = 0o140_000;
const TYPES: ReadonlyMap<number, InodeType> = new Map<number, InodeType>([
  ...Object.entries(MODE).map(([kind, format]): [number, InodeType] => [format, kind as NodeKind]),
  [SOCKET, "socket"],
]);
const MAX_NANOSECONDS = 999_999_999;

const refuse = (number: number, what: string): Ext4ReadError => new Ext4ReadError("INODE", `inode ${number} ${what}`);

/** Starts the checksums of all that belongs to an inode. */
export const inodeSeed = (superblock: Superblock, inode: Pick<Ext4Inode, "number" | "generation">): number | null =>
  superblock.checksumSeed === null ? null : crc32cWord(crc32cWord(superblock.checksumSeed, inode.number), inode.generation);

/** Bytes of fields behind the first 128. */
export const extraBytesOf = (raw: Buffer): number => (raw.length > OLD_INODE_BYTES ? raw.readUInt16LE(0x80) : 0);

/** Where attributes can stand in the inode. */
export const xattrsAt = (raw: Buffer): number => OLD_INODE_BYTES + extraBytesOf(raw);

/** An inode as its checksum sees it: behind its number and generation, and with zeros where the checksum stands. */
const summed = Buffer.alloc(8 + MAX_INODE_BYTES);

const verifyChecksum = (raw: Buffer, superblock: Superblock, number: number): void => {
  if (superblock.checksumSeed === null) return;
  const hasHigh = raw.length > OLD_INODE_BYTES && extraBytesOf(raw) >= 4;
  summed.writeUInt32LE(number, 0);
  summed.writeUInt32LE(raw.readUInt32LE(0x64), 4);
  summed.set(raw, 8);
  summed.writeUInt16LE(0, 8 + 0x7c);
  if (hasHigh) summed.writeUInt16LE(0, 8 + 0x82);
  const crc = crc32c(superblock.checksumSeed, summed, { start: 0, end: 8 + raw.length });
  const stored = raw.readUInt16LE(0x7c) + (hasHigh ? raw.readUInt16LE(0x82) * 2 ** 16 : 0);
  if (stored !== (hasHigh ? crc : crc & 0xffff)) throw new Ext4ReadError("CHECKSUM", `inode ${number} has a wrong checksum`);
};

/** Whether the field that ends at `end` exists in this inode. */
const has = (raw: Buffer, end: number): boolean => raw.length > OLD_INODE_BYTES && OLD_INODE_BYTES + extraBytesOf(raw) >= end;

const timeOf = (raw: Buffer, number: number, at: { seconds: number; extra: number }): Timestamp => {
  const low = raw.readInt32LE(at.seconds);
  if (!has(raw, at.extra + 4)) return { seconds: low, nanoseconds: 0 };
  const extra = raw.readUInt32LE(at.extra);
  const nanoseconds = extra >>> 2;
  if (nanoseconds > MAX_NANOSECONDS) throw refuse(number, `has a time with ${nanoseconds} nanoseconds`);
  return { seconds: low + (extra & 3) * 2 ** 32, nanoseconds };
};

const deviceOf = (raw: Buffer, type: InodeType): Ext4Inode["rdev"] => {
  if (type !== "character" && type !== "block") return { major: 0, minor: 0 };
  const old = raw.readUInt32LE(I_BLOCK_AT);
  if (old !== 0) return { major: (old >>> 8) & 0xff, minor: old & 0xff };
  const value = raw.readUInt32LE(I_BLOCK_AT + 4);
  return { major: (value >>> 8) & 0xfff, minor: (value & 0xff) | ((value >>> 12) & 0xf_ff00) };
};

const sizeOf = (raw: Buffer, type: InodeType, superblock: Superblock): number => {
  const isLarge = type === "file" || (superblock.features.incompat & INCOMPAT.largeDirectories) !== 0;
  return raw.readUInt32LE(0x04) + (isLarge ? raw.readUInt32LE(0x6c) * 2 ** 32 : 0);
};

const checkExtra = (raw: Buffer, number: number): void => {
  const extra = extraBytesOf(raw);
  if (raw.length > OLD_INODE_BYTES && (extra > raw.length - OLD_INODE_BYTES || extra % 4 !== 0))
    throw refuse(number, `has ${extra} bytes of extra fields`);
};

/** Takes an inode's bytes apart and checks them. It keeps `raw`. Throws Ext4ReadError INODE or CHECKSUM. */
export const parseInode = (raw: Buffer, superblock: Superblock, number: number): Ext4Inode => {
  const format = raw.readUInt16LE(0);
  const links = raw.readUInt16LE(0x1a);
  if (format === 0 && links === 0) throw refuse(number, "is free");
  checkExtra(raw, number);
  verifyChecksum(raw, superblock, number);
  const type = TYPES.get(format & FORMAT_MASK);
  if (type === undefined) throw refuse(number, `has the unknown type ${(format & FORMAT_MASK).toString(8)}`);
  const sizeBytes = sizeOf(raw, type, superblock);
  if (!Number.isSafeInteger(sizeBytes)) throw refuse(number, "has an impossible size");
  const flags = raw.readUInt32LE(0x20);
  if ((flags & FLAGS.encrypted) !== 0) throw new Ext4ReadError("UNSUPPORTED", `inode ${number} is encrypted`);
  return {
    number,
    type,
    mode: format & 0o7777,
    uid: raw.readUInt16LE(0x02) + raw.readUInt16LE(0x78) * 2 ** 16,
    gid: raw.readUInt16LE(0x18) + raw.readUInt16LE(0x7a) * 2 ** 16,
    sizeBytes,
    links,
    mtime: timeOf(raw, number, { seconds: 0x10, extra: 0x88 }),
    atime: timeOf(raw, number, { seconds: 0x08, extra: 0x8c }),
    ctime: timeOf(raw, number, { seconds: 0x0c, extra: 0x84 }),
    crtime: has(raw, 0x94) ? timeOf(raw, number, { seconds: 0x90, extra: 0x94 }) : null,
    rdev: deviceOf(raw, type),
    flags,
    generation: raw.readUInt32LE(0x64),
    raw,
  };
};
