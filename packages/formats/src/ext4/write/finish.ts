import { BLOCKS_PER_GROUP, BLOCK_BYTES, COMPAT, FIRST_INODE, GROUP_FLAGS, INCOMPAT, RO_COMPAT } from "../disk/constants.ts";
import { crc32c } from "../disk/crc32c.ts";
import type { Extent } from "../disk/extents.ts";
import { encodeGroupDescriptors } from "../disk/group-descriptor.ts";
import type { GroupDescriptor } from "../disk/group-descriptor.ts";
import { checksumSeed, encodeSuperblock } from "../disk/superblock.ts";
import type { FileSystemIdentity } from "../disk/superblock.ts";
import { Ext4Error } from "../errors.ts";
import type { Sink } from "../sink.ts";
import { Bitmap } from "./bitmap.ts";
import type { BlockStream } from "./block-stream.ts";
import { FIRST_DATA_BLOCK, planImage } from "./geometry.ts";
import type { ImageGeometry } from "./geometry.ts";
import type { WrittenTree } from "./tree-writer.ts";

const LOG_GROUPS_PER_FLEX = 4;
const SUPERBLOCK_AT = 1024;
/** Read-only by use: no journal, no backups of the superblock (sparse_super2 without any). */
const FEATURES = {
  compat: COMPAT.extAttr | COMPAT.dirIndex | COMPAT.sparseSuper2,
  incompat: INCOMPAT.fileType | INCOMPAT.extents | INCOMPAT.bits64 | INCOMPAT.flexBg,
  roCompat: RO_COMPAT.largeFile | RO_COMPAT.hugeFile | RO_COMPAT.dirNlink | RO_COMPAT.extraIsize | RO_COMPAT.metadataCsum,
} as const;

export interface ImageSummary {
  /** Size that the image has; the sink's file must be given it, as the end may never have been written. */
  readonly sizeBytes: number;
  /** Files, directories and all else that has an inode, the root included. */
  readonly inodes: number;
  readonly blocks: number;
  readonly freeBlocks: number;
}

const blockBitmap = (geometry: ImageGeometry, freed: Iterable<Extent>): Bitmap => {
  const bitmap = new Bitmap(geometry.groups * BLOCKS_PER_GROUP);
  bitmap.setRange(0, 1 + geometry.descriptorBlocks);
  bitmap.setRange(FIRST_DATA_BLOCK, geometry.inodeBitmaps + geometry.groups);
  for (const extent of freed) bitmap.clearRange(extent.physical, extent.physical + extent.count);
  bitmap.setRange(geometry.blocks, geometry.groups * BLOCKS_PER_GROUP);
  return bitmap;
};

/** Each group's bits stand in a block of their own; what is behind the group's inodes is set. */
const inodeBitmap = (geometry: ImageGeometry, lastInode: number): Bitmap => {
  const bitmap = new Bitmap(geometry.groups * BLOCKS_PER_GROUP);
  for (let group = 0; group < geometry.groups; group += 1) {
    const start = group * BLOCKS_PER_GROUP;
    const used = Math.min(Math.max(lastInode - group * geometry.inodesPerGroup, 0), geometry.inodesPerGroup);
    bitmap.setRange(start, start + used);
    bitmap.setRange(start + geometry.inodesPerGroup, start + BLOCKS_PER_GROUP);
  }
  return bitmap;
};

const countDirectories = (geometry: ImageGeometry, tree: WrittenTree): number[] => {
  const counts = Array.from({ length: geometry.groups }, () => 0);
  for (const { inode } of tree.numbering.directories) {
    const group = Math.floor((inode - 1) / geometry.inodesPerGroup);
    counts[group] = (counts[group] ?? 0) + 1;
  }
  return counts;
};

interface Maps {
  readonly blocks: Bitmap;
  readonly inodes: Bitmap;
}

const describeGroups = (geometry: ImageGeometry, maps: Maps, context: { tree: WrittenTree; seed: number }): GroupDescriptor[] =>
  countDirectories(geometry, context.tree).map((directories, group) => {
    const start = group * BLOCKS_PER_GROUP;
    const range = { start: start / 8, end: start / 8 + BLOCK_BYTES };
    const inodeRange = { start: start / 8, end: start / 8 + geometry.inodesPerGroup / 8 };
    const freeInodes = maps.inodes.countClear(start, start + geometry.inodesPerGroup);
    return {
      blockBitmap: geometry.blockBitmaps + group,
      inodeBitmap: geometry.inodeBitmaps + group,
      inodeTable: geometry.inodeTable + group * geometry.inodeTableBlocksPerGroup,
      freeBlocks: maps.blocks.countClear(start, start + BLOCKS_PER_GROUP),
      freeInodes,
      directories,
      unusedInodes: freeInodes,
      flags: GROUP_FLAGS.inodeZeroed,
      blockBitmapChecksum: crc32c(context.seed, maps.blocks.bytes, range),
      inodeBitmapChecksum: crc32c(context.seed, maps.inodes.bytes, inodeRange),
    };
  });

const sum = (groups: readonly GroupDescriptor[], key: "freeBlocks" | "freeInodes"): number =>
  groups.reduce((total, group) => total + group[key], 0);

interface FinishInput {
  readonly stream: BlockStream;
  readonly tree: WrittenTree;
  /** Blocks that were written but belong to no file in the end. */
  readonly freed: Iterable<Extent>;
  readonly identity: FileSystemIdentity;
  readonly maxBlocks: number;
}

/** Writes inode tables and bitmaps behind the data, then descriptors and the superblock in front. Throws Ext4Error TOO_LARGE. */
export const finishImage = (sink: Sink, input: FinishInput): ImageSummary => {
  const { stream, tree, identity } = input;
  const lastInode = Math.max(tree.numbering.lastInode, FIRST_INODE);
  stream.flush();
  const geometry = planImage(stream.nextBlock, lastInode);
  if (geometry.blocks > input.maxBlocks) throw new Ext4Error("TOO_LARGE", `the file system needs ${geometry.blocks * BLOCK_BYTES} bytes`);
  const seed = checksumSeed(identity);
  const maps = { blocks: blockBitmap(geometry, input.freed), inodes: inodeBitmap(geometry, tree.numbering.lastInode) };
  const groups = describeGroups(geometry, maps, { tree, seed });
  const freeBlocks = sum(groups, "freeBlocks");
  tree.writeInodes(sink, geometry.inodeTable * BLOCK_BYTES);
  sink.write(geometry.blockBitmaps * BLOCK_BYTES, maps.blocks.bytes);
  sink.write(geometry.inodeBitmaps * BLOCK_BYTES, maps.inodes.bytes);
  sink.write(BLOCK_BYTES, encodeGroupDescriptors(groups, seed));
  const superblock = encodeSuperblock({
    identity,
    blocks: geometry.blocks,
    freeBlocks,
    reservedBlocks: 0,
    inodes: geometry.groups * geometry.inodesPerGroup,
    freeInodes: sum(groups, "freeInodes"),
    inodesPerGroup: geometry.inodesPerGroup,
    logGroupsPerFlex: LOG_GROUPS_PER_FLEX,
    features: FEATURES,
    journal: null,
  });
  sink.write(SUPERBLOCK_AT, superblock);
  return {
    sizeBytes: geometry.blocks * BLOCK_BYTES,
    inodes: tree.numbering.nodes.length,
    blocks: geometry.blocks,
    freeBlocks,
  };
};
