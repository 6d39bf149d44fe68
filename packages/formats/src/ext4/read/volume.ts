import { Ext4ReadError } from "./errors.ts";
import { Groups } from "./groups.ts";
import { parseInode } from "./inode.ts";
import type { Ext4Inode } from "./inode.ts";
import type { ReadLimits } from "./limits.ts";
import type { Medium } from "./medium.ts";
import type { Superblock } from "./superblock.ts";

/** A file system whose superblock is known: its blocks, and its inodes by number. */
export class Volume {
  readonly superblock: Superblock;
  readonly medium: Medium;
  readonly limits: ReadLimits;
  readonly #groups: Groups;

  constructor(superblock: Superblock, medium: Medium, limits: ReadLimits) {
    this.superblock = superblock;
    this.medium = medium;
    this.limits = limits;
    this.#groups = new Groups(superblock, medium);
  }

  /** Reads and checks the group descriptors: all of them, or of one group alone. Throws Ext4ReadError GROUP or CHECKSUM. */
  loadGroups(only?: number): void {
    if (only === undefined) this.#groups.loadAll();
    else this.#groups.load(only);
  }

  /** An inode that is in use. Throws Ext4ReadError INODE or CHECKSUM. */
  inode(number: number): Ext4Inode {
    const { inodeCount, inodesPerGroup, inodeBytes, blockBytes } = this.superblock;
    if (!Number.isInteger(number) || number < 1 || number > inodeCount)
      throw new Ext4ReadError("INODE", `inode ${number} is not among the file system's ${inodeCount}`);
    const group = Math.floor((number - 1) / inodesPerGroup);
    const offset = ((number - 1) % inodesPerGroup) * inodeBytes;
    const block = this.medium.block(this.#groups.inodeTable(group) + Math.floor(offset / blockBytes));
    const at = offset % blockBytes;
    return parseInode(block.subarray(at, at + inodeBytes), this.superblock, number);
  }
}
