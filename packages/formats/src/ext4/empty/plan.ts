import { BLOCKS_PER_GROUP, BLOCK_BYTES, DESCRIPTORS_PER_BLOCK, INODES_PER_BLOCK } from "../disk/constants.ts";
import { Ext4Error } from "../errors.ts";

export const GROUPS_PER_FLEX = 16;
/** What the tests cover; the format itself goes further. */
export const MAX_DISK_BYTES = 2 ** 44;
const MIN_DISK_BYTES = 8 << 20;
/** As mke2fs chooses: an inode for each 4 KiB of small disks, for each 16 KiB of others. */
const SMALL_DISK_BYTES = 512 << 20;
/** A last group with less room than this is left out. */
const MIN_ROOM_BLOCKS = 50;

/** Where everything of an empty disk lies. Each 16 groups keep their bitmaps and inode tables together in the first of them. */
export interface DiskPlan {
  readonly blocks: number;
  readonly groups: number;
  readonly inodesPerGroup: number;
  readonly inodeTableBlocks: number;
  readonly descriptorBlocks: number;
  readonly journalBlocks: number;
}

/** Sizes in blocks, disk to journal: mke2fs's table. */
const JOURNAL_SIZES = [
  [32_768, 1024],
  [256 * 1024, 4096],
  [512 * 1024, 8192],
  [4096 * 1024, 16_384],
  [8192 * 1024, 32_768],
  [16_384 * 1024, 65_536],
  [32_768 * 1024, 131_072],
] as const;
const LARGEST_JOURNAL = 262_144;

const journalBlocks = (blocks: number): number => JOURNAL_SIZES.find(([below]) => blocks < below)?.[1] ?? LARGEST_JOURNAL;

const isPowerOf = (base: number, group: number): boolean => {
  let power = base;
  while (power < group) power *= base;
  return power === group;
};

/** Groups 0, 1 and the powers of 3, 5 and 7 have a superblock and the descriptors (sparse_super). */
export const hasSuperblock = (group: number): boolean => group <= 1 || isPowerOf(3, group) || isPowerOf(5, group) || isPowerOf(7, group);

const planGroups = (blocks: number, journal: boolean): DiskPlan => {
  const groups = Math.ceil(blocks / BLOCKS_PER_GROUP);
  const blocksPerInode = blocks * BLOCK_BYTES < SMALL_DISK_BYTES ? 1 : 4;
  const inodesPerGroup = Math.ceil(Math.min(blocks, BLOCKS_PER_GROUP) / blocksPerInode / INODES_PER_BLOCK) * INODES_PER_BLOCK;
  return {
    blocks,
    groups,
    inodesPerGroup,
    inodeTableBlocks: inodesPerGroup / INODES_PER_BLOCK,
    descriptorBlocks: Math.ceil(groups / DESCRIPTORS_PER_BLOCK),
    journalBlocks: journal ? journalBlocks(blocks) : 0,
  };
};

/** Blocks of the group's own superblock and descriptors. */
export const baseBlocks = (plan: DiskPlan, group: number): number => (hasSuperblock(group) ? 1 + plan.descriptorBlocks : 0);

/** How many groups keep their metadata in this group: 0 for all but the first of a flex group. */
export const groupsKeptIn = (plan: DiskPlan, group: number): number =>
  group % GROUPS_PER_FLEX === 0 ? Math.min(GROUPS_PER_FLEX, plan.groups - group) : 0;

export const metadataBlocks = (plan: DiskPlan, group: number): number =>
  baseBlocks(plan, group) + groupsKeptIn(plan, group) * (2 + plan.inodeTableBlocks);

export const blocksOfGroup = (plan: DiskPlan, group: number): number => Math.min(BLOCKS_PER_GROUP, plan.blocks - group * BLOCKS_PER_GROUP);

export interface GroupPlaces {
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
  readonly inodeTable: number;
}

export const placesOf = (plan: DiskPlan, group: number): GroupPlaces => {
  const index = group % GROUPS_PER_FLEX;
  const leader = group - index;
  const kept = groupsKeptIn(plan, leader);
  const start = leader * BLOCKS_PER_GROUP + baseBlocks(plan, leader);
  return { blockBitmap: start + index, inodeBitmap: start + kept + index, inodeTable: start + 2 * kept + index * plan.inodeTableBlocks };
};

/** Throws Ext4Error TOO_SMALL below 8 MiB and TOO_LARGE above 16 TiB. What does not fill a useful last group is left unused. */
export const planDisk = (sizeBytes: number, options: { journal: boolean }): DiskPlan => {
  if (sizeBytes < MIN_DISK_BYTES) throw new Ext4Error("TOO_SMALL", `a disk of ${sizeBytes} bytes is smaller than ${MIN_DISK_BYTES}`);
  if (sizeBytes > MAX_DISK_BYTES) throw new Ext4Error("TOO_LARGE", `a disk of ${sizeBytes} bytes is larger than ${MAX_DISK_BYTES}`);
  const plan = planGroups(Math.floor(sizeBytes / BLOCK_BYTES), options.journal);
  const last = plan.groups - 1;
  const isUseful = blocksOfGroup(plan, last) >= metadataBlocks(plan, last) + MIN_ROOM_BLOCKS;
  return isUseful ? plan : planGroups(last * BLOCKS_PER_GROUP, options.journal);
};
