/** Group descriptors: Documentation/filesystems/ext4/group_descr.rst; where they lie with meta_bg: blockgroup.rst. */
import { crc32c, crc32cWord } from "../disk/crc32c.ts";
import { Ext4ReadError } from "./errors.ts";
import { INCOMPAT, RO_COMPAT } from "./features.ts";
import type { Medium } from "./medium.ts";
import type { Superblock } from "./superblock.ts";

const CHECKSUM_AT = 0x1e;
const SMALL_DESCRIPTOR_BYTES = 32;
const ZEROS = Buffer.alloc(2);

const isPowerOf = (base: number, value: number): boolean => {
  let power = base;
  while (power < value) power *= base;
  return power === value;
};

const SPARSE_SUPER = 0x1;
const SPARSE_SUPER_2 = 0x200;

/** Whether a group begins with a copy of the superblock, which stands in front of a meta group's descriptors. */
const hasSuperblock = (superblock: Superblock, group: number): boolean => {
  if (group === 0) return true;
  if ((superblock.features.compat & SPARSE_SUPER_2) !== 0) return superblock.backupGroups.includes(group);
  if (group === 1 || (superblock.features.roCompat & SPARSE_SUPER) === 0) return true;
  return isPowerOf(3, group) || isPowerOf(5, group) || isPowerOf(7, group);
};

/** CRC-16 (ANSI) as file systems with uninit_bg, but without metadata_csum, use it. */
const crc16 = (crc: number, bytes: Uint8Array): number => {
  let value = crc;
  for (const byte of bytes) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit += 1) value = (value & 1) === 0 ? value >>> 1 : (value >>> 1) ^ 0xa001;
  }
  return value;
};

const checksumOf = (superblock: Superblock, descriptor: Buffer, group: number): number | null => {
  if (superblock.checksumSeed !== null) {
    const head = crc32c(crc32cWord(superblock.checksumSeed, group), descriptor, { start: 0, end: CHECKSUM_AT });
    return crc32c(crc32c(head, ZEROS), descriptor, { start: CHECKSUM_AT + 2, end: descriptor.length }) & 0xffff;
  }
  if ((superblock.features.roCompat & RO_COMPAT.groupChecksum) === 0) return null;
  const number = Buffer.alloc(4);
  number.writeUInt32LE(group, 0);
  const head = crc16(crc16(crc16(0xffff, superblock.uuid), number), descriptor.subarray(0, CHECKSUM_AT));
  return crc16(head, descriptor.subarray(SMALL_DESCRIPTOR_BYTES));
};

/** Where each group's table of inodes begins. Groups are read one after the other; what is kept is eight bytes for each. */
export class Groups {
  readonly #superblock: Superblock;
  readonly #medium: Medium;
  readonly #tables: Float64Array;

  constructor(superblock: Superblock, medium: Medium) {
    this.#superblock = superblock;
    this.#medium = medium;
    this.#tables = new Float64Array(superblock.groupCount);
  }

  /** Reads and checks all descriptors. Throws Ext4ReadError GROUP or CHECKSUM. */
  loadAll(): void {
    for (let group = 0; group < this.#superblock.groupCount; group += 1) this.load(group);
  }

  load(group: number): void {
    const { blockBytes, descriptorBytes, blockCount, firstDataBlock, inodesPerGroup, inodeBytes } = this.#superblock;
    const perBlock = blockBytes / descriptorBytes;
    const block = this.#medium.block(this.#descriptorBlock(Math.floor(group / perBlock)));
    const at = (group % perBlock) * descriptorBytes;
    const descriptor = block.subarray(at, at + descriptorBytes);
    const checksum = checksumOf(this.#superblock, descriptor, group);
    if (checksum !== null && checksum !== descriptor.readUInt16LE(CHECKSUM_AT))
      throw new Ext4ReadError("CHECKSUM", `the descriptor of group ${group} has a wrong checksum`);
    const table = descriptor.readUInt32LE(0x08) + (descriptorBytes > SMALL_DESCRIPTOR_BYTES ? descriptor.readUInt32LE(0x28) * 2 ** 32 : 0);
    const tableBlocks = Math.ceil((inodesPerGroup * inodeBytes) / blockBytes);
    if (table <= firstDataBlock || table + tableBlocks > blockCount)
      throw new Ext4ReadError("GROUP", `the inodes of group ${group} lie at block ${table}, which is out of the file system`);
    this.#tables[group] = table;
  }

  /** The first block of a group's table of inodes. */
  inodeTable(group: number): number {
    return this.#tables[group] ?? 0;
  }

  #descriptorBlock(index: number): number {
    const { features, firstMetaGroup, firstDataBlock, blockBytes, descriptorBytes, blocksPerGroup } = this.#superblock;
    if ((features.incompat & INCOMPAT.metaGroups) === 0 || index < firstMetaGroup) {
      // with bigalloc and blocks of 1 KiB the first cluster holds the superblock and what follows it
      const superblockAt = blockBytes === 1024 ? 1 : 0;
      return Math.max(firstDataBlock, superblockAt) + 1 + index;
    }
    const group = index * (blockBytes / descriptorBytes);
    const start = firstDataBlock + group * blocksPerGroup;
    return start + (hasSuperblock(this.#superblock, group) ? 1 : 0);
  }
}
