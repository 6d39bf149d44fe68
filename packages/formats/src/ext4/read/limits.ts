import { Ext4ReadError } from "./errors.ts";

export interface ReadLimits {
  /** Entries of one walk. Every one takes an inode's read and an answer; the largest images known have a tenth. */
  readonly maxEntries: number;
  /** Directories on the way to an entry. A path of PATH_MAX bytes has at most 2,048 names. */
  readonly maxDepth: number;
  /** Bytes of a path: PATH_MAX, which is also the longest that a tar is read with. */
  readonly maxPathBytes: number;
  /** Memory that names, hard links and the journal's map may take at one time, by estimate. */
  readonly maxHeldBytes: number;
  /**
   * Directories, block maps and attribute blocks that one walk or one call may read. Inner blocks that point at each other's children
   * would otherwise take a lifetime without ever going in a circle. Two million entries need less than one GiB.
   */
  readonly maxMetadataBytes: number;
  /** Size of one file: what ext4 can hold with blocks of 4 KiB. */
  readonly maxFileBytes: number;
  /** Block groups, whose tables are held: 128 TiB with blocks of 4 KiB. */
  readonly maxGroups: number;
}

export const DEFAULT_READ_LIMITS: ReadLimits = {
  maxEntries: 4_000_000,
  maxDepth: 2048,
  maxPathBytes: 4096,
  maxHeldBytes: 2 ** 30,
  maxMetadataBytes: 2 ** 32,
  maxFileBytes: (2 ** 32 - 1) * 4096,
  maxGroups: 2 ** 20,
};

/** Deepest extent tree that the kernel makes or reads. */
export const MAX_EXTENT_DEPTH = 5;
/** Largest value of an attribute that Linux takes (XATTR_SIZE_MAX). */
export const MAX_XATTR_BYTES = 65_536;
/** Longest target of a symlink: PATH_MAX with the final zero. */
export const MAX_SYMLINK_BYTES = 4095;
/** Content is read in pieces: large enough that a read's own cost does not count, small enough for many readers at once. */
export const CONTENT_CHUNK_BYTES = 2 ** 20;
/** Metadata is read in pieces of neighbouring blocks, and so much of it is kept: the inodes of 60,000 files. */
export const METADATA_CHUNK_BYTES = 2 ** 15;
export const METADATA_CACHE_CHUNKS = 512;

/** Counts what one walk or one call reads and holds. All throw Ext4ReadError LIMIT. */
export class Meter {
  readonly #limits: ReadLimits;
  #entriesLeft: number;
  #metadataLeft: number;
  #heldLeft: number;

  constructor(limits: ReadLimits) {
    this.#limits = limits;
    this.#entriesLeft = limits.maxEntries;
    this.#metadataLeft = limits.maxMetadataBytes;
    this.#heldLeft = limits.maxHeldBytes;
  }

  entry(): void {
    this.#entriesLeft -= 1;
    if (this.#entriesLeft < 0) throw new Ext4ReadError("LIMIT", `the file system has more than ${this.#limits.maxEntries} entries`);
  }

  metadata(bytes: number): void {
    this.#metadataLeft -= bytes;
    if (this.#metadataLeft < 0)
      throw new Ext4ReadError("LIMIT", `directories and block maps have more than ${this.#limits.maxMetadataBytes} bytes`);
  }

  /** Takes memory; a negative number gives it back. */
  hold(bytes: number): void {
    this.#heldLeft -= bytes;
    if (this.#heldLeft < 0) throw new Ext4ReadError("LIMIT", `entries take more than ${this.#limits.maxHeldBytes} bytes of memory`);
  }
}
