import { EXTRA_INODE_BYTES, INODE_BYTES, MODE, SECTORS_PER_BLOCK } from "./constants.ts";
import type { NodeKind } from "./constants.ts";
import { crc32c, crc32cWord } from "./crc32c.ts";
import { Ext4Error } from "../errors.ts";

export interface Timestamp {
  readonly seconds: number;
  readonly nanoseconds: number;
}

export interface InodeValues {
  readonly kind: NodeKind;
  /** Permission bits with set-id and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly sizeBytes: number;
  /** Blocks of data, extent tree and attributes together. */
  readonly blocks: number;
  readonly flags: number;
  /** Extents, a short symlink's target, or a device number. */
  readonly iBlock: Uint8Array;
  readonly modifiedAt: Timestamp;
  readonly createdAt: Timestamp;
  readonly xattrBlock: number;
  readonly inInodeXattrs: Uint8Array | null;
}

const GENERATION = 0;
const EARLIEST = -(2 ** 31);
/** 34 bits of seconds, from 1901 on: the year 2446. */
const LATEST = 2 ** 34 - 2 ** 31 - 1;

/** Starts the checksums of everything that belongs to an inode. */
export const inodeChecksumSeed = (seed: number, inode: number): number => crc32cWord(crc32cWord(seed, inode), GENERATION);

/** Times outside of what ext4 can hold are moved to the nearest it can; like the kernel, without a fraction at either end. */
const writeTime = (out: Buffer, time: Timestamp, at: { seconds: number; extra: number }): void => {
  const seconds = Math.min(Math.max(time.seconds, EARLIEST), LATEST);
  const nanoseconds = seconds === EARLIEST || seconds === LATEST ? 0 : time.nanoseconds;
  const lowBits = seconds | 0;
  const epoch = Math.round((seconds - lowBits) / 2 ** 32) & 3;
  out.writeInt32LE(lowBits, at.seconds);
  out.writeUInt32LE(((nanoseconds << 2) | epoch) >>> 0, at.extra);
};

const writeOwnership = (out: Buffer, values: InodeValues): void => {
  out.writeUInt16LE(MODE[values.kind] | values.mode, 0x00);
  out.writeUInt16LE(values.uid & 0xffff, 0x02);
  out.writeUInt16LE(values.gid & 0xffff, 0x18);
  out.writeUInt16LE(values.uid >>> 16, 0x78);
  out.writeUInt16LE(values.gid >>> 16, 0x7a);
};

/** Writes an inode into `out`, 256 zero bytes, with its checksum; `seed` is the file system's. */
export const encodeInode = (out: Buffer, values: InodeValues, place: { inode: number; seed: number }): void => {
  const sectors = values.blocks * SECTORS_PER_BLOCK;
  writeOwnership(out, values);
  out.writeUInt32LE(values.sizeBytes % 2 ** 32, 0x04);
  out.writeUInt32LE(Math.floor(values.sizeBytes / 2 ** 32), 0x6c);
  writeTime(out, values.modifiedAt, { seconds: 0x08, extra: 0x8c });
  writeTime(out, values.modifiedAt, { seconds: 0x0c, extra: 0x84 });
  writeTime(out, values.modifiedAt, { seconds: 0x10, extra: 0x88 });
  writeTime(out, values.createdAt, { seconds: 0x90, extra: 0x94 });
  out.writeUInt16LE(values.links, 0x1a);
  out.writeUInt32LE(sectors % 2 ** 32, 0x1c);
  out.writeUInt16LE(Math.floor(sectors / 2 ** 32), 0x74);
  out.writeUInt32LE(values.flags, 0x20);
  out.set(values.iBlock, 0x28);
  out.writeUInt32LE(GENERATION, 0x64);
  out.writeUInt32LE(values.xattrBlock % 2 ** 32, 0x68);
  out.writeUInt16LE(Math.floor(values.xattrBlock / 2 ** 32), 0x76);
  out.writeUInt16LE(EXTRA_INODE_BYTES, 0x80);
  if (values.inInodeXattrs !== null) out.set(values.inInodeXattrs, 0x80 + EXTRA_INODE_BYTES);
  const checksum = crc32c(inodeChecksumSeed(place.seed, place.inode), out, { start: 0, end: INODE_BYTES });
  out.writeUInt16LE(checksum & 0xffff, 0x7c);
  out.writeUInt16LE(checksum >>> 16, 0x82);
};

const MAX_MAJOR = 0xfff;
const MAX_MINOR = 0xf_ffff;

/** i_block of a device: the old 8:8 form where it fits, else the new 12:20 one. Throws Ext4Error DEVICE_INVALID. */
export const encodeDevice = (major: number, minor: number): Buffer => {
  if (major < 0 || minor < 0 || major > MAX_MAJOR || minor > MAX_MINOR) {
    throw new Ext4Error("DEVICE_INVALID", `the device number ${major}:${minor} is out of range`);
  }
  const out = Buffer.alloc(60);
  if (major < 256 && minor < 256) out.writeUInt32LE((major << 8) | minor, 0);
  else out.writeUInt32LE(((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0, 4);
  return out;
};
