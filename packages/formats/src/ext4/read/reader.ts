import { rawNameBytes } from "../../tar/index.ts";
import { fileRuns } from "./block-map.ts";
import { readRuns } from "./content.ts";
import type { ContentPiece } from "./content.ts";
import { readEntries } from "./directory.ts";
import { Ext4ReadError } from "./errors.ts";
import { INCOMPAT } from "./features.ts";
import type { Features } from "./features.ts";
import { I_BLOCK_AT } from "./inode.ts";
import type { Ext4Inode } from "./inode.ts";
import { inlineContent, inlineTarget, isInline } from "./inline.ts";
import { replayJournal } from "./journal.ts";
import { DEFAULT_READ_LIMITS, MAX_SYMLINK_BYTES, Meter } from "./limits.ts";
import type { ReadLimits } from "./limits.ts";
import { Medium } from "./medium.ts";
import type { ByteSource } from "./medium.ts";
import { parseSuperblock, readSuperblock, SUPERBLOCK_AT, SUPERBLOCK_BYTES } from "./superblock.ts";
import type { Stretch } from "./sparse-file.ts";
import type { Superblock } from "./superblock.ts";
import { Volume } from "./volume.ts";
import { walkTree } from "./walk.ts";
import type { Ext4Entry, WalkOptions } from "./walk.ts";
import { readXattrs } from "./xattr.ts";
import type { Xattr } from "./xattr.ts";

export const ROOT_INODE = 2;
/** A symlink shorter than i_block lives in the inode. */
const FAST_SYMLINK_BYTES = 60;

/**
 * An ext2, ext3 or ext4 file system of any origin, read without trust in it: whatever its bytes, each call ends in bounded time and memory
 * with an answer or an Ext4ReadError (or with what the source throws). Nothing is written. Checksums are verified where the file system
 * has them. Structures are as in the kernel's Documentation/filesystems/ext4; feature bits as in its fs/ext4/ext4.h.
 */
export class Ext4Reader {
  readonly uuid: Uint8Array;
  readonly label: string;
  readonly blockBytes: number;
  readonly blockCount: number;
  readonly inodeCount: number;
  readonly features: Features;
  /** The file system was in use: what is read is what a mount would show, after it has replayed the journal. */
  readonly needsRecovery: boolean;
  readonly limits: ReadLimits;
  readonly #volume: Volume;

  private constructor(volume: Volume, needsRecovery: boolean) {
    const { uuid, label, blockBytes, blockCount, inodeCount, features } = volume.superblock;
    this.uuid = uuid;
    this.label = label;
    this.blockBytes = blockBytes;
    this.blockCount = blockCount;
    this.inodeCount = inodeCount;
    this.features = features;
    this.needsRecovery = needsRecovery;
    this.limits = volume.limits;
    this.#volume = volume;
  }

  /** Reads superblock and group descriptors, checks them, replays the journal in memory where the file system needs it. Throws Ext4ReadError. */
  static open(source: ByteSource, limits: Partial<ReadLimits> = {}): Ext4Reader {
    const all = { ...DEFAULT_READ_LIMITS, ...limits };
    const stored = readSuperblock(source, all);
    const needsRecovery = (stored.features.incompat & INCOMPAT.recover) !== 0;
    const volume = needsRecovery ? recover(source, stored, all) : new Volume(stored, new Medium(source, stored), all);
    volume.loadGroups();
    return new Ext4Reader(volume, needsRecovery);
  }

  root(): Ext4Inode {
    const root = this.#volume.inode(ROOT_INODE);
    if (root.type !== "directory") throw new Ext4ReadError("INODE", `the root is a ${root.type}`);
    return root;
  }

  /** Throws Ext4ReadError INODE for one that is free or does not exist. */
  inode(number: number): Ext4Inode {
    return this.#volume.inode(number);
  }

  /** The entries of a directory in the order of the disk, checked, without "." and "..". */
  *readDirectory(directory: Ext4Inode): Generator<{ readonly name: Uint8Array; readonly inode: number }> {
    for (const { name, inode } of readEntries(this.#volume, directory, new Meter(this.limits))) yield { name: rawNameBytes(name), inode };
  }

  /** A symlink's target, 1 to 4,095 bytes. */
  readLink(link: Ext4Inode, meter: Meter = new Meter(this.limits)): Uint8Array {
    const { type, number, sizeBytes } = link;
    if (type !== "symlink") throw new Ext4ReadError("INODE", `inode ${number} is a ${type}, no symlink`);
    if (sizeBytes === 0 || sizeBytes > MAX_SYMLINK_BYTES)
      throw new Ext4ReadError("INODE", `the symlink of inode ${number} has ${sizeBytes} bytes`);
    const target = this.#target(link, meter);
    if (target.includes(0)) throw new Ext4ReadError("INODE", `the symlink of inode ${number} has a zero byte in its target`);
    return target;
  }

  /** Those that programs can see, as programs see them. */
  xattrs(inode: Ext4Inode, meter: Meter = new Meter(this.limits)): readonly Xattr[] {
    return readXattrs(this.#volume, inode, meter);
  }

  /** The data of a file in order, in pieces of at most 1 MiB. What lies between them is a hole, or was never written: zeros. */
  *content(file: Ext4Inode, meter: Meter = new Meter(this.limits)): Generator<ContentPiece> {
    this.#checkFile(file);
    if (!isInline(file)) yield* readRuns(this.#volume, file, meter);
    else if (file.sizeBytes > 0) yield { offset: 0, bytes: inlineContent(file) };
  }

  /** Where the data of a file lies, in order: the stretches that `content` reads. */
  *stretches(file: Ext4Inode, meter: Meter = new Meter(this.limits)): Generator<Stretch> {
    this.#checkFile(file);
    if (isInline(file)) {
      if (file.sizeBytes > 0) yield { offset: 0, length: inlineContent(file).length };
      return;
    }
    for (const { logical, count, unwritten } of fileRuns(this.#volume, file, meter)) {
      const offset = logical * this.blockBytes;
      if (!unwritten) yield { offset, length: Math.min(count * this.blockBytes, file.sizeBytes - offset) };
    }
  }

  /**
   * Every entry, the root first, a directory before what is in it, the entries of a directory in the order of their names' bytes.
   * A directory that is met twice, an impossible inode and whatever is beyond the limits end it with Ext4ReadError.
   */
  walk(options: WalkOptions = {}): Generator<Ext4Entry> {
    return walkTree(this.#volume, options.from ?? this.root(), { meter: new Meter(this.limits), ...options });
  }

  #checkFile({ type, number, sizeBytes }: Ext4Inode): void {
    if (type !== "file") throw new Ext4ReadError("INODE", `inode ${number} is a ${type}, no file`);
    if (sizeBytes > this.limits.maxFileBytes)
      throw new Ext4ReadError("LIMIT", `the file of inode ${number} has ${sizeBytes} bytes, more than ${this.limits.maxFileBytes}`);
  }

  #target(link: Ext4Inode, meter: Meter): Buffer {
    if (isInline(link)) return inlineTarget(link);
    if (link.sizeBytes < FAST_SYMLINK_BYTES) return link.raw.subarray(I_BLOCK_AT, I_BLOCK_AT + link.sizeBytes);
    const target = Buffer.alloc(link.sizeBytes);
    for (const { offset, bytes } of readRuns(this.#volume, link, meter)) target.set(bytes, offset);
    return target;
  }
}

/** The volume as it is once its journal has been replayed, which may have changed the superblock as well. */
const recover = (source: ByteSource, stored: Superblock, limits: ReadLimits): Volume => {
  const copies = replayJournal(new Volume(stored, new Medium(source, stored), limits));
  const medium = new Medium(source, stored, copies);
  const block = medium.block(Math.floor(SUPERBLOCK_AT / stored.blockBytes));
  const at = SUPERBLOCK_AT % stored.blockBytes;
  const superblock = parseSuperblock(Buffer.from(block.subarray(at, at + SUPERBLOCK_BYTES)), source.sizeBytes, limits);
  if (superblock.blockBytes !== stored.blockBytes) throw new Ext4ReadError("JOURNAL", "the journal changes the size of the blocks");
  return new Volume(superblock, new Medium(source, superblock, copies), limits);
};
