import {
  BLOCKS_PER_GROUP,
  BLOCK_BYTES,
  COMPAT,
  FIRST_INODE,
  GROUP_FLAGS,
  INCOMPAT,
  INODE_BYTES,
  INODE_FLAGS,
  JOURNAL_INODE,
  ROOT_INODE,
  RO_COMPAT,
} from "../disk/constants.ts";
import { crc32c } from "../disk/crc32c.ts";
import { emptyDirectoryBlock, encodeDirectoryBlock } from "../disk/directory.ts";
import { MAX_EXTENT_BLOCKS, buildExtentTree } from "../disk/extents.ts";
import type { Extent } from "../disk/extents.ts";
import { encodeGroupDescriptors } from "../disk/group-descriptor.ts";
import type { GroupDescriptor } from "../disk/group-descriptor.ts";
import { encodeInode, inodeChecksumSeed } from "../disk/inode.ts";
import { encodeJournalSuperblock } from "../disk/journal.ts";
import { checksumSeed, encodeSuperblock } from "../disk/superblock.ts";
import type { FileSystemIdentity, SuperblockValues } from "../disk/superblock.ts";
import { Ext4Error } from "../errors.ts";
import type { Sink } from "../sink.ts";
import { Bitmap } from "../write/bitmap.ts";
import { GROUPS_PER_FLEX, blocksOfGroup, groupsKeptIn, hasSuperblock, metadataBlocks, placesOf, planDisk } from "./plan.ts";
import type { DiskPlan } from "./plan.ts";

export interface EmptyDiskOptions {
  /** 8 MiB to 16 TiB. A rest that does not fill a useful block group stays unused. */
  readonly sizeBytes: number;
  readonly identity: FileSystemIdentity;
  /** A journal of mke2fs's size for the disk. */
  readonly journal: boolean;
  /** Empty ones in the root, of root's; their names are ASCII. None if absent. */
  readonly directories?: readonly { readonly name: string; readonly mode: number }[];
}

/** As large as mke2fs makes it, so that fsck finds room in it without allocating. */
const LOST_FOUND_BLOCKS = 4;
const LOST_FOUND_INODE = FIRST_INODE;

const features = (journal: boolean): SuperblockValues["features"] => ({
  compat: COMPAT.extAttr | COMPAT.dirIndex | (journal ? COMPAT.hasJournal : 0),
  incompat: INCOMPAT.fileType | INCOMPAT.extents | INCOMPAT.bits64 | INCOMPAT.flexBg,
  roCompat:
    RO_COMPAT.sparseSuper | RO_COMPAT.largeFile | RO_COMPAT.hugeFile | RO_COMPAT.dirNlink | RO_COMPAT.extraIsize | RO_COMPAT.metadataCsum,
});

/** Hands out the blocks that metadata leaves free, in order, and counts them by group. */
class Allocator {
  readonly usedIn = new Map<number, number>();
  readonly #plan: DiskPlan;
  #next: number;

  constructor(plan: DiskPlan) {
    this.#plan = plan;
    this.#next = metadataBlocks(plan, 0);
  }

  /** `count` blocks as runs that skip metadata and fit into an extent each. Throws Ext4Error TOO_SMALL. */
  take(count: number): Extent[] {
    const extents: Extent[] = [];
    let logical = 0;
    while (logical < count) {
      const group = Math.floor(this.#next / BLOCKS_PER_GROUP);
      const end = group * BLOCKS_PER_GROUP + blocksOfGroup(this.#plan, group);
      const run = Math.min(count - logical, end - this.#next, MAX_EXTENT_BLOCKS);
      if (run > 0) {
        extents.push({ logical, physical: this.#next, count: run });
        this.usedIn.set(group, (this.usedIn.get(group) ?? 0) + run);
        logical += run;
        this.#next += run;
      }
      if (this.#next < end) continue;
      if (group + 1 >= this.#plan.groups) throw new Ext4Error("TOO_SMALL", "the disk is too small for its journal");
      this.#next = (group + 1) * BLOCKS_PER_GROUP + metadataBlocks(this.#plan, group + 1);
    }
    return extents;
  }

  takeOne(): number {
    return this.take(1)[0]?.physical ?? 0;
  }
}

interface InodeSpec {
  readonly kind: "directory" | "file";
  readonly mode: number;
  readonly links: number;
  readonly extents: readonly Extent[];
}

interface RootDirectory {
  readonly name: string;
  readonly mode: number;
  readonly inode: number;
  readonly blocks: number;
}

const entry = (name: string, inode: number) => ({ name, inode, kind: "directory" as const });

const rootDirectories = ({ directories = [] }: EmptyDiskOptions): readonly RootDirectory[] => [
  { name: "lost+found", mode: 0o700, inode: LOST_FOUND_INODE, blocks: LOST_FOUND_BLOCKS },
  ...directories.map((directory, index) => ({ ...directory, inode: LOST_FOUND_INODE + 1 + index, blocks: 1 })),
];

/** Writes the files that every disk has, and keeps the first inode table. */
class Contents {
  readonly inodes: Buffer;
  readonly allocator: Allocator;
  readonly #sink: Sink;
  readonly #identity: FileSystemIdentity;
  readonly #seed: number;

  constructor(plan: DiskPlan, identity: FileSystemIdentity, sink: Sink) {
    this.allocator = new Allocator(plan);
    this.inodes = Buffer.alloc(Math.min(plan.inodeTableBlocks, 1) * BLOCK_BYTES);
    this.#sink = sink;
    this.#identity = identity;
    this.#seed = checksumSeed(identity);
  }

  writeDirectories(directories: readonly RootDirectory[]): void {
    const root = this.allocator.take(1);
    const entries = directories.map(({ name, inode }) => entry(name, inode));
    const all = [entry(".", ROOT_INODE), entry("..", ROOT_INODE), ...entries];
    this.#writeBlocks(root, [encodeDirectoryBlock(all, inodeChecksumSeed(this.#seed, ROOT_INODE))]);
    this.#inode(ROOT_INODE, { kind: "directory", mode: 0o755, links: 2 + directories.length, extents: root });
    for (const directory of directories) this.#emptyDirectory(directory);
  }

  #emptyDirectory({ inode, mode, blocks }: RootDirectory): void {
    const extents = this.allocator.take(blocks);
    const seed = inodeChecksumSeed(this.#seed, inode);
    const first = encodeDirectoryBlock([entry(".", inode), entry("..", ROOT_INODE)], seed);
    this.#writeBlocks(extents, [first, ...Array.from({ length: blocks - 1 }, () => emptyDirectoryBlock(seed))]);
    this.#inode(inode, { kind: "directory", mode, links: 2, extents });
  }

  /** Returns what the superblock repeats of the journal. */
  writeJournal(blocks: number): { iBlock: Uint8Array; sizeBytes: number } {
    const extents = this.allocator.take(blocks);
    this.#writeBlocks(extents, [encodeJournalSuperblock(blocks, this.#identity.uuid)]);
    const iBlock = this.#inode(JOURNAL_INODE, { kind: "file", mode: 0o600, links: 1, extents });
    return { iBlock, sizeBytes: blocks * BLOCK_BYTES };
  }

  #writeBlocks(extents: readonly Extent[], blocks: readonly Buffer[]): void {
    this.#sink.write((extents[0]?.physical ?? 0) * BLOCK_BYTES, Buffer.concat(blocks));
  }

  #inode(inode: number, spec: InodeSpec): Uint8Array {
    const tree = buildExtentTree(spec.extents, inodeChecksumSeed(this.#seed, inode), (block) => {
      const physical = this.allocator.takeOne();
      this.#sink.write(physical * BLOCK_BYTES, block);
      return physical;
    });
    const blocks = spec.extents.reduce((sum, extent) => sum + extent.count, 0);
    const time = { seconds: this.#identity.timeSeconds, nanoseconds: 0 };
    const values = {
      ...spec,
      uid: 0,
      gid: 0,
      sizeBytes: blocks * BLOCK_BYTES,
      blocks: blocks + tree.treeBlocks,
      flags: INODE_FLAGS.extents,
      iBlock: tree.iBlock,
      modifiedAt: time,
      createdAt: time,
      xattrBlock: 0,
      inInodeXattrs: null,
    };
    encodeInode(this.inodes.subarray((inode - 1) * INODE_BYTES, inode * INODE_BYTES), values, { inode, seed: this.#seed });
    return tree.iBlock;
  }
}

interface WrittenBitmap {
  readonly flags: number;
  readonly checksum: number;
}

/** Groups in which nothing but a superblock's copy lies keep no block bitmap: the kernel makes it up when it needs it. */
const writeBlockBitmap = (plan: DiskPlan, group: number, output: { used: number; seed: number; sink: Sink }): WrittenBitmap => {
  const isPlain = output.used === 0 && groupsKeptIn(plan, group) === 0 && group !== plan.groups - 1;
  if (isPlain) return { flags: GROUP_FLAGS.blockUninit, checksum: 0 };
  const bitmap = new Bitmap(BLOCKS_PER_GROUP);
  bitmap.setRange(0, metadataBlocks(plan, group) + output.used);
  bitmap.setRange(blocksOfGroup(plan, group), BLOCKS_PER_GROUP);
  output.sink.write(placesOf(plan, group).blockBitmap * BLOCK_BYTES, bitmap.bytes);
  return { flags: 0, checksum: crc32c(output.seed, bitmap.bytes) };
};

const writeInodeBitmap = (plan: DiskPlan, output: { usedInodes: number; seed: number; sink: Sink }): number => {
  const bitmap = new Bitmap(BLOCKS_PER_GROUP);
  bitmap.setRange(0, output.usedInodes);
  bitmap.setRange(plan.inodesPerGroup, BLOCKS_PER_GROUP);
  output.sink.write(placesOf(plan, 0).inodeBitmap * BLOCK_BYTES, bitmap.bytes);
  return crc32c(output.seed, bitmap.bytes, { start: 0, end: plan.inodesPerGroup / 8 });
};

const writeGroups = (
  plan: DiskPlan,
  used: { readonly blocksIn: ReadonlyMap<number, number>; readonly directories: number },
  output: { seed: number; sink: Sink },
): GroupDescriptor[] => {
  const inodes = FIRST_INODE - 1 + used.directories;
  const groups: GroupDescriptor[] = [];
  for (let group = 0; group < plan.groups; group += 1) {
    const blocks = used.blocksIn.get(group) ?? 0;
    const bitmap = writeBlockBitmap(plan, group, { used: blocks, ...output });
    const usedInodes = group === 0 ? inodes : 0;
    groups.push({
      ...placesOf(plan, group),
      freeBlocks: blocksOfGroup(plan, group) - metadataBlocks(plan, group) - blocks,
      freeInodes: plan.inodesPerGroup - usedInodes,
      directories: group === 0 ? 1 + used.directories : 0,
      unusedInodes: plan.inodesPerGroup - usedInodes,
      flags: GROUP_FLAGS.inodeZeroed | bitmap.flags | (group === 0 ? 0 : GROUP_FLAGS.inodeUninit),
      blockBitmapChecksum: bitmap.checksum,
      inodeBitmapChecksum: group === 0 ? writeInodeBitmap(plan, { usedInodes, ...output }) : 0,
    });
  }
  return groups;
};

/**
 * Writes an empty file system: a root directory with lost+found and what is asked for, directories and a journal with nothing in them. Only what is not zero is
 * written (some 200 KiB for 8 GiB); the sink's file must be given `sizeBytes`. Throws Ext4Error TOO_SMALL or TOO_LARGE.
 */
export const writeEmptyExt4 = (options: EmptyDiskOptions, sink: Sink): void => {
  const { identity } = options;
  const plan = planDisk(options.sizeBytes, options);
  const seed = checksumSeed(identity);
  const contents = new Contents(plan, identity, sink);
  const directories = rootDirectories(options);
  contents.writeDirectories(directories);
  const journal = options.journal ? contents.writeJournal(plan.journalBlocks) : null;
  sink.write(placesOf(plan, 0).inodeTable * BLOCK_BYTES, contents.inodes);
  const groups = writeGroups(plan, { blocksIn: contents.allocator.usedIn, directories: directories.length }, { seed, sink });
  const values: SuperblockValues = {
    identity,
    blocks: plan.blocks,
    freeBlocks: groups.reduce((sum, group) => sum + group.freeBlocks, 0),
    reservedBlocks: 0,
    inodes: plan.groups * plan.inodesPerGroup,
    freeInodes: groups.reduce((sum, group) => sum + group.freeInodes, 0),
    inodesPerGroup: plan.inodesPerGroup,
    logGroupsPerFlex: Math.log2(GROUPS_PER_FLEX),
    features: features(options.journal),
    journal,
  };
  const descriptors = encodeGroupDescriptors(groups, seed);
  for (let group = plan.groups - 1; group >= 0; group -= 1) {
    if (!hasSuperblock(group)) continue;
    const start = group * BLOCKS_PER_GROUP * BLOCK_BYTES;
    sink.write(start + BLOCK_BYTES, descriptors);
    sink.write(group === 0 ? 1024 : start, encodeSuperblock(values, group));
  }
};
