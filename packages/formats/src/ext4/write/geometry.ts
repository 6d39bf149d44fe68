import { BLOCKS_PER_GROUP, DESCRIPTORS_PER_BLOCK, INODES_PER_BLOCK, MAX_INODES_PER_GROUP } from "../disk/constants.ts";

/** Largest image: room for its group descriptors is kept in front of the data, whatever the image turns out to need. */
export const MAX_IMAGE_GROUPS = 4096;
export const MAX_IMAGE_BLOCKS = MAX_IMAGE_GROUPS * BLOCKS_PER_GROUP;
/** The first block of data: behind the superblock and the most descriptors there can be. */
export const FIRST_DATA_BLOCK = 1 + MAX_IMAGE_GROUPS / DESCRIPTORS_PER_BLOCK;

/** Where the metadata of an image goes: inode tables, then block bitmaps, then inode bitmaps, right behind the data. */
export interface ImageGeometry {
  readonly groups: number;
  readonly blocks: number;
  readonly inodesPerGroup: number;
  readonly inodeTable: number;
  readonly inodeTableBlocksPerGroup: number;
  readonly blockBitmaps: number;
  readonly inodeBitmaps: number;
  readonly descriptorBlocks: number;
}

/** Finds the fewest groups that hold the data, `lastInode` inodes and their own metadata. */
export const planImage = (endOfData: number, lastInode: number): ImageGeometry => {
  let groups = 1;
  for (;;) {
    const inodesPerGroup = Math.ceil(lastInode / groups / INODES_PER_BLOCK) * INODES_PER_BLOCK;
    const inodeTableBlocksPerGroup = inodesPerGroup / INODES_PER_BLOCK;
    const blocks = Math.max(endOfData + groups * (inodeTableBlocksPerGroup + 2), (groups - 1) * BLOCKS_PER_GROUP + 1);
    const needed = Math.max(Math.ceil(blocks / BLOCKS_PER_GROUP), Math.ceil(lastInode / MAX_INODES_PER_GROUP));
    if (needed <= groups) {
      const inodeTable = endOfData;
      const blockBitmaps = inodeTable + groups * inodeTableBlocksPerGroup;
      return {
        groups,
        blocks,
        inodesPerGroup,
        inodeTable,
        inodeTableBlocksPerGroup,
        blockBitmaps,
        inodeBitmaps: blockBitmaps + groups,
        descriptorBlocks: Math.ceil(groups / DESCRIPTORS_PER_BLOCK),
      };
    }
    groups = needed;
  }
};
