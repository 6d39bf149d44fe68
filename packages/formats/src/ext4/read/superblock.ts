/** The superblock: Documentation/filesystems/ext4/super.rst. The checks are those of the kernel's ext4_fill_super. */
import { CRC_START, crc32c } from "../disk/crc32c.ts";
import { Ext4ReadError } from "./errors.ts";
import { INCOMPAT, RO_COMPAT, checkFeatures } from "./features.ts";
import type { Features } from "./features.ts";
import type { ReadLimits } from "./limits.ts";
import type { ByteSource } from "./medium.ts";

export const SUPERBLOCK_AT = 1024;
export const SUPERBLOCK_BYTES = 1024;
const MAGIC = 0xef53;
const CHECKSUM_CRC32C = 1;
const MAX_LOG_BLOCK = 6;
const OLD_INODE_BYTES = 128;
const OLD_FIRST_INODE = 11;
const SMALL_DESCRIPTOR_BYTES = 32;
const LARGE_DESCRIPTOR_BYTES = 64;
const MAX_DESCRIPTOR_BYTES = 1024;
const SMALLEST_GROUP_BLOCKS = 8;

export interface Superblock {
  readonly uuid: Uint8Array;
  readonly label: string;
  readonly features: Features;
  readonly blockBytes: number;
  readonly blockCount: number;
  readonly firstDataBlock: number;
  readonly blocksPerGroup: number;
  readonly groupCount: number;
  readonly descriptorBytes: number;
  readonly firstMetaGroup: number;
  /** The two groups with a copy of the superblock, with sparse_super2. */
  readonly backupGroups: readonly number[];
  readonly inodeCount: number;
  readonly inodesPerGroup: number;
  readonly inodeBytes: number;
  /** Inodes below it belong to the file system itself. */
  readonly firstInode: number;
  readonly journalInode: number;
  /** Starts all checksums; null where metadata has none. */
  readonly checksumSeed: number | null;
}

const isPowerOf2 = (value: number): boolean => value > 0 && Number.isInteger(Math.log2(value));

const wrong = (what: string): Ext4ReadError => new Ext4ReadError("SUPERBLOCK", `the superblock has ${what}`);

const verifyChecksum = (raw: Buffer, features: Features): void => {
  if ((features.roCompat & RO_COMPAT.metadataChecksum) === 0) return;
  const type = raw.readUInt8(0x175);
  if (type !== CHECKSUM_CRC32C) throw new Ext4ReadError("UNSUPPORTED", `the superblock names the unknown checksum ${type}`);
  if (crc32c(CRC_START, raw, { start: 0, end: 0x3fc }) !== raw.readUInt32LE(0x3fc))
    throw new Ext4ReadError("CHECKSUM", "the superblock has a wrong checksum");
};

const seedOf = (raw: Buffer, features: Features): number | null => {
  if ((features.roCompat & RO_COMPAT.metadataChecksum) === 0) return null;
  if ((features.incompat & INCOMPAT.checksumSeed) !== 0) return raw.readUInt32LE(0x270);
  return crc32c(CRC_START, raw, { start: 0x68, end: 0x78 });
};

const labelOf = (raw: Buffer): string => {
  const bytes = raw.subarray(0x78, 0x88);
  const end = bytes.indexOf(0);
  return bytes.toString("utf8", 0, end === -1 ? bytes.length : end);
};

const descriptorBytesOf = (raw: Buffer, is64: boolean): number => {
  if (!is64) return SMALL_DESCRIPTOR_BYTES;
  const bytes = raw.readUInt16LE(0xfe);
  if (bytes < LARGE_DESCRIPTOR_BYTES || bytes > MAX_DESCRIPTOR_BYTES || !isPowerOf2(bytes))
    throw wrong(`group descriptors of ${bytes} bytes`);
  return bytes;
};

const inodeBytesOf = (raw: Buffer, isOld: boolean, blockBytes: number): number => {
  if (isOld) return OLD_INODE_BYTES;
  const bytes = raw.readUInt16LE(0x58);
  if (bytes < OLD_INODE_BYTES || bytes > blockBytes || !isPowerOf2(bytes)) throw wrong(`inodes of ${bytes} bytes`);
  return bytes;
};

/** The most blocks that one bitmap block tells of; with bigalloc its bits are clusters. */
const maxGroupBlocks = (raw: Buffer, features: Features, blockBytes: number): number => {
  const clusterBits = (features.roCompat & RO_COMPAT.bigAllocation) === 0 ? 0 : raw.readUInt32LE(0x1c) - raw.readUInt32LE(0x18);
  if (clusterBits < 0 || clusterBits > 20) throw wrong("clusters of an impossible size");
  return blockBytes * 8 * 2 ** clusterBits;
};

const checkGroups = (superblock: Superblock, raw: Buffer, limits: ReadLimits): void => {
  const { blockBytes, blocksPerGroup, inodesPerGroup, inodeCount, groupCount } = superblock;
  if (blocksPerGroup < SMALLEST_GROUP_BLOCKS || blocksPerGroup > maxGroupBlocks(raw, superblock.features, blockBytes))
    throw wrong(`${blocksPerGroup} blocks in a group`);
  if (superblock.firstInode < OLD_FIRST_INODE) throw wrong(`${superblock.firstInode} as its first inode`);
  if (inodesPerGroup === 0 || inodesPerGroup > blockBytes * 8) throw wrong(`${inodesPerGroup} inodes in a group`);
  if (inodesPerGroup * groupCount !== inodeCount)
    throw wrong(`${inodeCount} inodes, where ${groupCount} groups of ${inodesPerGroup} have others`);
  if (groupCount > limits.maxGroups)
    throw new Ext4ReadError("LIMIT", `the file system has ${groupCount} groups, more than ${limits.maxGroups}`);
};

/** Takes 1,024 bytes apart and checks them. Throws Ext4ReadError. */
export const parseSuperblock = (raw: Buffer, mediumBytes: number, limits: ReadLimits): Superblock => {
  if (raw.readUInt16LE(0x38) !== MAGIC) throw new Ext4ReadError("NOT_EXT4", "there is no ext4 superblock");
  const isOld = raw.readUInt32LE(0x4c) === 0;
  const features: Features = isOld
    ? { compat: 0, incompat: 0, roCompat: 0 }
    : { compat: raw.readUInt32LE(0x5c), incompat: raw.readUInt32LE(0x60), roCompat: raw.readUInt32LE(0x64) };
  verifyChecksum(raw, features);
  checkFeatures(features);
  const logBlock = raw.readUInt32LE(0x18);
  if (logBlock > MAX_LOG_BLOCK) throw wrong(`blocks of 2^${logBlock} KiB`);
  const blockBytes = 1024 * 2 ** logBlock;
  const is64 = (features.incompat & INCOMPAT.bits64) !== 0;
  const blockCount = raw.readUInt32LE(0x04) + (is64 ? raw.readUInt32LE(0x150) * 2 ** 32 : 0);
  const firstDataBlock = raw.readUInt32LE(0x14);
  if (firstDataBlock > (blockBytes === 1024 ? 1 : 0) || firstDataBlock >= blockCount)
    throw wrong(`its first data at block ${firstDataBlock}`);
  if (blockCount * blockBytes > mediumBytes)
    throw new Ext4ReadError(
      "MEDIUM",
      `the superblock has ${blockCount} blocks of ${blockBytes} bytes, but the medium only ${mediumBytes} bytes`,
    );
  const blocksPerGroup = raw.readUInt32LE(0x20);
  const superblock: Superblock = {
    uuid: Uint8Array.from(raw.subarray(0x68, 0x78)),
    label: labelOf(raw),
    features,
    blockBytes,
    blockCount,
    firstDataBlock,
    blocksPerGroup,
    groupCount: Math.ceil((blockCount - firstDataBlock) / Math.max(blocksPerGroup, 1)),
    descriptorBytes: descriptorBytesOf(raw, is64),
    firstMetaGroup: raw.readUInt32LE(0x104),
    backupGroups: [raw.readUInt32LE(0x24c), raw.readUInt32LE(0x250)],
    inodeCount: raw.readUInt32LE(0x00),
    inodesPerGroup: raw.readUInt32LE(0x28),
    inodeBytes: inodeBytesOf(raw, isOld, blockBytes),
    firstInode: isOld ? OLD_FIRST_INODE : raw.readUInt32LE(0x54),
    journalInode: raw.readUInt32LE(0xe0),
    checksumSeed: seedOf(raw, features),
  };
  checkGroups(superblock, raw, limits);
  return superblock;
};

/** Reads the primary superblock from the medium as it stands. Throws Ext4ReadError. */
export const readSuperblock = (source: ByteSource, limits: ReadLimits): Superblock => {
  if (source.sizeBytes < SUPERBLOCK_AT + SUPERBLOCK_BYTES)
    throw new Ext4ReadError("NOT_EXT4", `a medium of ${source.sizeBytes} bytes holds no superblock`);
  const bytes = source.read(SUPERBLOCK_AT, SUPERBLOCK_BYTES);
  if (bytes.length !== SUPERBLOCK_BYTES)
    throw new Ext4ReadError("MEDIUM", `the medium gave ${bytes.length} of the ${SUPERBLOCK_BYTES} bytes of the superblock`);
  return parseSuperblock(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), source.sizeBytes, limits);
};
