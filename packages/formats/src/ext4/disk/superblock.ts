import {
  BLOCKS_PER_GROUP,
  BLOCK_BYTES,
  DESCRIPTOR_BYTES,
  EXTRA_INODE_BYTES,
  FIRST_INODE,
  INODE_BYTES,
  JOURNAL_INODE,
} from "./constants.ts";
import { CRC_START, crc32c } from "./crc32c.ts";

export const SUPERBLOCK_BYTES = 1024;
const SUPERBLOCK_MAGIC = 0xef53;
const CLEAN = 1;
const ERRORS_CONTINUE = 1;
const DYNAMIC_REVISION = 1;
const HASH_HALF_MD4 = 1;
/** How the name hash treats bytes over 127; fixed, so that the bytes do not depend on the host. */
const FLAG_SIGNED_HASH = 1;
const CHECKSUM_CRC32C = 1;
const JOURNAL_BACKUP_BLOCKS = 1;
const MOUNT_XATTR_ACL = 0x4 | 0x8;
const NEVER = 0xffff;

/** What identifies a file system and makes it a pure function of its input. */
export interface FileSystemIdentity {
  /** 16 bytes. */
  readonly uuid: Uint8Array;
  /** 16 bytes: the seed of the directory hash. */
  readonly hashSeed: Uint8Array;
  /** Seconds since 1970: creation and last write of the file system, times of what no layer names. */
  readonly timeSeconds: number;
  /** At most 16 bytes. */
  readonly label: string;
}

export interface SuperblockValues {
  readonly identity: FileSystemIdentity;
  readonly blocks: number;
  readonly freeBlocks: number;
  readonly reservedBlocks: number;
  readonly inodes: number;
  readonly freeInodes: number;
  readonly inodesPerGroup: number;
  readonly logGroupsPerFlex: number;
  readonly features: { readonly compat: number; readonly incompat: number; readonly roCompat: number };
  /** The journal inode's i_block and size, kept here too for recovery; null without a journal. */
  readonly journal: { readonly iBlock: Uint8Array; readonly sizeBytes: number } | null;
}

const high = (value: number): number => Math.floor(value / 2 ** 32);
const low = (value: number): number => value % 2 ** 32;

const writeCounts = (out: Buffer, values: SuperblockValues): void => {
  out.writeUInt32LE(values.inodes, 0x00);
  out.writeUInt32LE(low(values.blocks), 0x04);
  out.writeUInt32LE(low(values.reservedBlocks), 0x08);
  out.writeUInt32LE(low(values.freeBlocks), 0x0c);
  out.writeUInt32LE(values.freeInodes, 0x10);
  out.writeUInt32LE(high(values.blocks), 0x150);
  out.writeUInt32LE(high(values.reservedBlocks), 0x154);
  out.writeUInt32LE(high(values.freeBlocks), 0x158);
  out.writeUInt32LE(BLOCKS_PER_GROUP, 0x20);
  out.writeUInt32LE(BLOCKS_PER_GROUP, 0x24);
  out.writeUInt32LE(values.inodesPerGroup, 0x28);
  out.writeUInt32LE(FIRST_INODE, 0x54);
  out.writeUInt16LE(INODE_BYTES, 0x58);
  out.writeUInt16LE(DESCRIPTOR_BYTES, 0xfe);
  out.writeUInt8(values.logGroupsPerFlex, 0x174);
};

const writeIdentity = (out: Buffer, identity: FileSystemIdentity): void => {
  out.set(identity.uuid, 0x68);
  out.write(identity.label, 0x78, 16, "utf8");
  for (let index = 0; index < 16; index += 1) out[0xec + index] = identity.hashSeed[index] ?? 0;
  out.writeUInt32LE(identity.timeSeconds, 0x30);
  out.writeUInt32LE(identity.timeSeconds, 0x40);
  out.writeUInt32LE(identity.timeSeconds, 0x108);
};

const writeJournal = (out: Buffer, journal: { iBlock: Uint8Array; sizeBytes: number }): void => {
  out.writeUInt32LE(JOURNAL_INODE, 0xe0);
  out.writeUInt8(JOURNAL_BACKUP_BLOCKS, 0xfd);
  out.set(journal.iBlock, 0x10c);
  out.writeUInt32LE(high(journal.sizeBytes), 0x10c + 15 * 4);
  out.writeUInt32LE(low(journal.sizeBytes), 0x10c + 16 * 4);
};

/** The 1,024 bytes of the superblock as group `group` keeps it (0: the primary), checksum included. */
export const encodeSuperblock = (values: SuperblockValues, group = 0): Buffer => {
  const out = Buffer.alloc(SUPERBLOCK_BYTES);
  const logBlock = Math.log2(BLOCK_BYTES / 1024);
  writeCounts(out, values);
  writeIdentity(out, values.identity);
  out.writeUInt32LE(logBlock, 0x18);
  out.writeUInt32LE(logBlock, 0x1c);
  out.writeUInt16LE(NEVER, 0x36);
  out.writeUInt16LE(SUPERBLOCK_MAGIC, 0x38);
  out.writeUInt16LE(CLEAN, 0x3a);
  out.writeUInt16LE(ERRORS_CONTINUE, 0x3c);
  out.writeUInt32LE(DYNAMIC_REVISION, 0x4c);
  out.writeUInt16LE(group, 0x5a);
  out.writeUInt32LE(values.features.compat, 0x5c);
  out.writeUInt32LE(values.features.incompat, 0x60);
  out.writeUInt32LE(values.features.roCompat, 0x64);
  out.writeUInt8(HASH_HALF_MD4, 0xfc);
  out.writeUInt32LE(MOUNT_XATTR_ACL, 0x100);
  out.writeUInt16LE(EXTRA_INODE_BYTES, 0x15c);
  out.writeUInt16LE(EXTRA_INODE_BYTES, 0x15e);
  out.writeUInt32LE(FLAG_SIGNED_HASH, 0x160);
  out.writeUInt8(CHECKSUM_CRC32C, 0x175);
  if (values.journal !== null) writeJournal(out, values.journal);
  out.writeUInt32LE(crc32c(CRC_START, out, { start: 0, end: 0x3fc }), 0x3fc);
  return out;
};

/** Every other checksum starts from this one over the UUID. */
export const checksumSeed = (identity: FileSystemIdentity): number => crc32c(CRC_START, identity.uuid);
