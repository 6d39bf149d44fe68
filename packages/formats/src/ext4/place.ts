import { BLOCK_BYTES, INODE_BYTES } from "./disk/constants.ts";
import { FIRST_DATA_BLOCK } from "./write/geometry.ts";

/** What imagePlace needs of an image: superblock and first group descriptor. */
export const PLACE_HEAD_BYTES = 2 * BLOCK_BYTES;

const SUPERBLOCK_AT = 1024;

/** What lies at an offset of an image that LayeredImage wrote, in words: in front of the data, in it, or among the tables behind it. */
export const imagePlace = (head: Uint8Array, offset: number): string => {
  const view = new DataView(head.buffer, head.byteOffset, PLACE_HEAD_BYTES);
  const wide = (low: number, high: number): number => view.getUint32(low, true) + view.getUint32(high, true) * 2 ** 32;
  const blocks = wide(SUPERBLOCK_AT + 0x04, SUPERBLOCK_AT + 0x150);
  const groups = Math.ceil(blocks / view.getUint32(SUPERBLOCK_AT + 0x20, true));
  const table = wide(BLOCK_BYTES + 0x08, BLOCK_BYTES + 0x28);
  const blockBitmaps = wide(BLOCK_BYTES, BLOCK_BYTES + 0x20);
  const inodeBitmaps = wide(BLOCK_BYTES + 0x04, BLOCK_BYTES + 0x24);
  const block = Math.floor(offset / BLOCK_BYTES);
  if (block === 0) return "the superblock";
  if (block < FIRST_DATA_BLOCK) return "the group descriptors";
  if (block < table) return `block ${block}, data of a file or a directory`;
  if (block < blockBitmaps) return `inode ${Math.floor((offset - table * BLOCK_BYTES) / INODE_BYTES) + 1}`;
  if (block < inodeBitmaps) return `the block bitmap of group ${block - blockBitmaps}`;
  if (block < inodeBitmaps + groups) return `the inode bitmap of group ${block - inodeBitmaps}`;
  return `block ${block}, which nothing uses`;
};
