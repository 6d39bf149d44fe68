/** The journal (jbd2), whose numbers are big-endian: Documentation/filesystems/ext4/journal.rst. */
import { CRC_START, crc32c } from "../disk/crc32c.ts";
import { fileRuns } from "./block-map.ts";
import type { Run } from "./block-map.ts";
import { Ext4ReadError } from "./errors.ts";
import { COMPAT } from "./features.ts";
import type { Ext4Inode } from "./inode.ts";
import { Meter } from "./limits.ts";
import type { JournalCopies, JournalCopy } from "./medium.ts";
import { JOURNAL_MAGIC, readCommit, readDescriptor, readRevocations, taggedBlockIsWhole } from "./transaction.ts";
import type { LogFormat, Tag } from "./transaction.ts";
import type { Volume } from "./volume.ts";

const JOURNAL_INODE = 8;
const SUPERBLOCK_BYTES = 1024;
const BLOCK_TYPE = { descriptor: 1, commit: 2, superblockV1: 3, superblockV2: 4, revocations: 5 } as const;
const INCOMPAT = { revoke: 0x1, bits64: 0x2, asyncCommit: 0x4, checksumV2: 0x8, checksumV3: 0x10, fastCommit: 0x20 } as const;
const KNOWN_INCOMPAT = INCOMPAT.revoke | INCOMPAT.bits64 | INCOMPAT.asyncCommit | INCOMPAT.checksumV2 | INCOMPAT.checksumV3;
const CHECKSUM_CRC32C = 4;
/** What one block of the log costs in memory until the replay is done. */
const TAG_COST_BYTES = 160;

const refuse = (what: string): Ext4ReadError => new Ext4ReadError("JOURNAL", `the journal ${what}`);

interface Log {
  readonly format: LogFormat;
  readonly blockBytes: number;
  /** The log goes round from `first` up to, but without, `end`. */
  readonly first: number;
  readonly end: number;
  readonly start: number;
  readonly sequence: number;
}

/** The journal's own blocks on the medium, which stand in no log. */
class JournalBlocks {
  readonly #volume: Volume;
  readonly #runs: readonly Run[];
  readonly count: number;

  constructor(volume: Volume, inode: Ext4Inode, meter: Meter) {
    this.#volume = volume;
    const runs: Run[] = [];
    let next = 0;
    for (const run of fileRuns(volume, inode, meter)) {
      if (run.logical !== next || run.unwritten) throw refuse(`has a hole at its block ${next}`);
      meter.hold(TAG_COST_BYTES);
      next += run.count;
      runs.push(run);
    }
    this.#runs = runs;
    this.count = next;
  }

  /** Where block `index` of the journal lies. */
  place(index: number): number {
    let [low, high] = [0, this.#runs.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#runs[middle]?.logical ?? 0) <= index) low = middle;
      else high = middle - 1;
    }
    const run = this.#runs[low];
    if (run === undefined || index >= run.logical + run.count) throw refuse(`has no block ${index}`);
    return run.physical + index - run.logical;
  }

  read(index: number): Buffer {
    return this.#volume.medium.block(this.place(index));
  }
}

const checkFeatures = (incompat: number): void => {
  if ((incompat & INCOMPAT.fastCommit) !== 0)
    throw new Ext4ReadError("UNSUPPORTED", "the journal has the feature fast_commit, which is not replayed here");
  const unknown = incompat & ~KNOWN_INCOMPAT;
  if (unknown !== 0)
    throw new Ext4ReadError("UNSUPPORTED", `the journal has the features 0x${(unknown >>> 0).toString(16)}, which are unknown here`);
};

const seedOf = (raw: Buffer, incompat: number): number | null => {
  if ((incompat & (INCOMPAT.checksumV2 | INCOMPAT.checksumV3)) === 0) return null;
  if ((incompat & INCOMPAT.checksumV2) !== 0 && (incompat & INCOMPAT.checksumV3) !== 0) throw refuse("has checksums of two versions");
  const type = raw.readUInt8(0x50);
  if (type !== CHECKSUM_CRC32C) throw new Ext4ReadError("UNSUPPORTED", `the journal names the unknown checksum ${type}`);
  const blank = Buffer.from(raw);
  blank.writeUInt32BE(0, 0xfc);
  if (crc32c(CRC_START, blank) !== raw.readUInt32BE(0xfc))
    throw new Ext4ReadError("CHECKSUM", "the superblock of the journal has a wrong checksum");
  return crc32c(CRC_START, raw, { start: 0x30, end: 0x40 });
};

/** Reads the journal's superblock; null where there is nothing to replay. */
const readLog = (blocks: JournalBlocks, blockBytes: number): Log | null => {
  if (blocks.count === 0) throw refuse("is empty");
  const raw = blocks.read(0).subarray(0, SUPERBLOCK_BYTES);
  const type = raw.readUInt32BE(4);
  if (raw.readUInt32BE(0) !== JOURNAL_MAGIC || (type !== BLOCK_TYPE.superblockV1 && type !== BLOCK_TYPE.superblockV2))
    throw refuse("has no superblock");
  const incompat = type === BLOCK_TYPE.superblockV2 ? raw.readUInt32BE(0x28) : 0;
  checkFeatures(incompat);
  const seed = seedOf(raw, incompat);
  const [bytes, end, first] = [raw.readUInt32BE(0x0c), raw.readUInt32BE(0x10), raw.readUInt32BE(0x14)];
  const start = raw.readUInt32BE(0x1c);
  if (bytes !== blockBytes) throw refuse(`has blocks of ${bytes} bytes, the file system of ${blockBytes}`);
  if (first === 0 || first >= end || end > blocks.count) throw refuse(`has its log from block ${first} to ${end}, of ${blocks.count}`);
  if (start === 0) return null;
  if (start < first || start >= end) throw refuse(`begins at block ${start}, out of its log`);
  const format: LogFormat = {
    seed,
    is64: (incompat & INCOMPAT.bits64) !== 0,
    version: (incompat & INCOMPAT.checksumV3) !== 0 ? 3 : (incompat & INCOMPAT.checksumV2) !== 0 ? 2 : 0,
  };
  return { format, blockBytes, first, end, start, sequence: raw.readUInt32BE(0x18) };
};

/** A block that a committed transaction has written, and where in the journal its copy is. */
interface LoggedBlock extends Tag {
  readonly at: number;
  readonly sequence: number;
}

/** Sequence numbers go round: which is later is a matter of their distance. */
const isAfterOrAt = (a: number, b: number): boolean => ((a - b) | 0) >= 0;

/** Goes through the log from transaction to transaction. */
class LogScan {
  readonly written: LoggedBlock[] = [];
  /** The last transaction that has revoked a block: older copies of it are not replayed. */
  readonly revoked = new Map<number, number>();
  readonly #blocks: JournalBlocks;
  readonly #log: Log;
  readonly #meter: Meter;
  #at: number;
  #blocksLeft: number;

  constructor(blocks: JournalBlocks, log: Log, meter: Meter) {
    this.#blocks = blocks;
    this.#log = log;
    this.#meter = meter;
    this.#at = log.start;
    this.#blocksLeft = log.end - log.first;
  }

  /** Takes the transactions that are whole, up to the first that is not. */
  run(): void {
    let sequence = this.#log.sequence;
    while (this.#transaction(sequence)) sequence = (sequence + 1) >>> 0;
  }

  /** The place in the journal of the next block of the log; null once all of it has been gone through. */
  #next(): number | null {
    if (this.#blocksLeft <= 0) return null;
    this.#blocksLeft -= 1;
    this.#meter.metadata(this.#log.blockBytes);
    const at = this.#at;
    this.#at = at + 1 === this.#log.end ? this.#log.first : at + 1;
    return at;
  }

  /** Takes one transaction, or nothing of it where it is not whole. */
  #transaction(sequence: number): boolean {
    const { format } = this.#log;
    const written: LoggedBlock[] = [];
    const revoked: number[] = [];
    for (;;) {
      const at = this.#next();
      const block = at === null ? null : this.#blocks.read(at);
      if (block === null || block.readUInt32BE(0) !== JOURNAL_MAGIC || block.readUInt32BE(8) !== sequence) return false;
      const type = block.readUInt32BE(4);
      if (type === BLOCK_TYPE.commit) {
        if (!readCommit(block, format)) return false;
        this.#take(written, revoked, sequence);
        return true;
      }
      if (type === BLOCK_TYPE.descriptor) {
        if (!this.#descriptor(block, sequence, written)) return false;
      } else if (type === BLOCK_TYPE.revocations) {
        const blocks = readRevocations(block, format);
        if (blocks === null) return false;
        this.#meter.hold(blocks.length * TAG_COST_BYTES);
        for (const one of blocks) revoked.push(one);
      } else {
        return false;
      }
    }
  }

  /** Takes the blocks that a descriptor names; false where one is missing or has a wrong checksum. */
  #descriptor(block: Buffer, sequence: number, written: LoggedBlock[]): boolean {
    const { format } = this.#log;
    const tags = readDescriptor(block, format);
    if (tags === null) return false;
    this.#meter.hold(tags.length * TAG_COST_BYTES);
    for (const tag of tags) {
      const at = this.#next();
      if (at === null || !taggedBlockIsWhole(this.#blocks.read(at), tag, { format, sequence })) return false;
      written.push({ ...tag, at, sequence });
    }
    return true;
  }

  #take(written: readonly LoggedBlock[], revoked: readonly number[], sequence: number): void {
    for (const one of written) this.written.push(one);
    for (const block of revoked) this.revoked.set(block, sequence);
  }
}

/**
 * What a mount would write back: the last committed copy of each block. A transaction that is not whole (no commit, a wrong checksum)
 * ends the log: it and what follows did not happen. Throws Ext4ReadError JOURNAL, CHECKSUM or UNSUPPORTED.
 */
export const replayJournal = (volume: Volume): JournalCopies => {
  const { superblock, limits, medium } = volume;
  if ((superblock.features.compat & COMPAT.hasJournal) === 0 || superblock.journalInode !== JOURNAL_INODE)
    throw new Ext4ReadError("UNSUPPORTED", "the file system needs recovery, and its journal is not in its inode 8");
  volume.loadGroups(0);
  const meter = new Meter(limits);
  const inode = volume.inode(JOURNAL_INODE);
  if (inode.type !== "file" || inode.sizeBytes > limits.maxFileBytes) throw refuse(`is a ${inode.type} of ${inode.sizeBytes} bytes`);
  const blocks = new JournalBlocks(volume, inode, meter);
  const log = readLog(blocks, medium.blockBytes);
  const copies = new Map<number, JournalCopy>();
  if (log === null) return copies;
  const scan = new LogScan(blocks, log, meter);
  scan.run();
  for (const { block, at, escaped, sequence } of scan.written) {
    const revokedAt = scan.revoked.get(block);
    if (revokedAt !== undefined && isAfterOrAt(revokedAt, sequence)) continue;
    if (block >= superblock.blockCount) throw refuse(`writes to block ${block}, which is out of the file system`);
    copies.set(block, { block: blocks.place(at), escaped });
  }
  return copies;
};
