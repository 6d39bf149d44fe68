import { constants } from "node:fs";
import { type FileHandle, open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { VmId } from "@kiln/protocol";
import { abortable, Deferred } from "@kiln/std";
import { hasCode } from "@kiln/std/node";
import type { OutputStream } from "../vms/agent.port.ts";
import type { LogChunk, VmLog, VmLogs } from "../vms/log.port.ts";

/**
 * A log is two segment files at most; a record in one is u8 stream, u64 offset, u32 length (little-endian), then the
 * bytes. Each segment and each epoch begins with a record of stream 2, which says where the epoch's offsets begin: the
 * offset is stdout's, its 8 bytes are stderr's. The daemon's death can cut the last record short; it is dropped at the next open, and the guest, which was
 * not told that it arrived, sends it again.
 */
const HEADER_BYTES = 13;
/** Two of them are kept: 32 MiB of output for each VM. */
const SEGMENT_BYTES = 16 * 2 ** 20;
const STREAMS: readonly OutputStream[] = ["stdout", "stderr"];
const EPOCH_RECORD = 2;
const SEGMENT_NAME = /^log\.(\d{1,9})$/;

interface Segment {
  readonly index: number;
  readonly file: FileHandle;
  bytes: number;
  readers: number;
  /** Closed when its last reader has gone. */
  retired: boolean;
}

type Offsets = Readonly<Record<OutputStream, number>>;

interface Reader {
  readonly holds: boolean;
  segment: Segment;
  position: number;
}

class FileLog implements VmLog {
  readonly #directory: string;
  readonly #readers = new Set<Reader>();
  #segments: Segment[];
  #changed = new Deferred<void>();
  #closed = false;
  #isHeld = true;
  /** Where this epoch begins. */
  #base: Offsets;
  ends: Offsets;

  constructor(directory: string, segments: Segment[], found: { base: Offsets; ends: Offsets }) {
    this.#directory = directory;
    this.#segments = segments;
    this.#base = found.base;
    this.ends = found.ends;
  }

  /** Cuts off what a dead daemon left of a record. Only the one who writes may: a reader sees records that are just being written. */
  async dropTorn(): Promise<void> {
    for (const segment of this.#segments) await segment.file.truncate(segment.bytes);
  }

  /** What comes from now on is a new epoch's. */
  async beginEpoch(): Promise<void> {
    this.#base = this.ends;
    const last = this.#segments.at(-1);
    if (last === undefined) await this.#segmentFor(0);
    else await writeEpoch(last, this.#base);
  }

  async append(chunk: LogChunk): Promise<void> {
    const begin = this.#base[chunk.stream] + chunk.offset;
    const known = this.ends[chunk.stream] - begin;
    if (known >= chunk.bytes.length) return;
    const bytes = known > 0 ? chunk.bytes.subarray(known) : chunk.bytes;
    const offset = begin + Math.max(0, known);
    const segment = await this.#segmentFor(HEADER_BYTES + bytes.length);
    await writeRecord(segment, { kind: STREAMS.indexOf(chunk.stream), offset, bytes });
    this.ends = { ...this.ends, [chunk.stream]: offset + bytes.length };
    this.#wake();
  }

  async #segmentFor(bytes: number): Promise<Segment> {
    const last = this.#segments.at(-1);
    if (last !== undefined && (last.bytes === 0 || last.bytes + bytes <= SEGMENT_BYTES)) return last;
    const oldest = this.#segments.length > 1 ? this.#segments[0] : undefined;
    if (oldest !== undefined) await this.#retire(oldest);
    const next = await openSegment(this.#directory, (last?.index ?? -1) + 1, WRITE_FLAGS);
    await writeEpoch(next, this.#base);
    this.#segments.push(next);
    return next;
  }

  letGo(): void {
    this.#isHeld = false;
    this.#wake();
  }

  /** Waits for readers who hold, then removes the oldest segment. */
  async #retire(segment: Segment): Promise<void> {
    while (this.#isHeld && [...this.#readers].some((reader) => reader.holds && reader.segment === segment)) await this.#nextChange();
    this.#segments = this.#segments.filter((one) => one !== segment);
    segment.retired = true;
    await rm(segmentPath(this.#directory, segment.index), { force: true });
    await releaseSegment(segment);
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = new Deferred();
  }

  #nextChange(): Promise<void> {
    return this.#changed.promise;
  }

  async *read(options: { follow: boolean; holds: boolean; epochOnly: boolean; signal: AbortSignal }): AsyncGenerator<LogChunk> {
    const base = options.epochOnly ? this.#base : { stdout: 0, stderr: 0 };
    const first = this.#segments[0];
    if (first === undefined) return;
    const reader: Reader = { holds: options.holds, segment: first, position: 0 };
    first.readers += 1;
    this.#readers.add(reader);
    try {
      for (;;) {
        const changed = this.#nextChange();
        const record = await readRecord(reader);
        if (record !== null) yield* since(record, base);
        else if (await this.#advance(reader)) this.#wake();
        else if (options.follow && !this.#closed) await abortable(changed, options.signal);
        else return;
      }
    } finally {
      this.#readers.delete(reader);
      await leaveSegment(reader.segment);
      await this.#releaseIfClosed();
      this.#wake();
    }
  }

  /** Moves to the next kept segment; false where there is none. */
  async #advance(reader: Reader): Promise<boolean> {
    const next = this.#segments.find((one) => one.index > reader.segment.index);
    if (next === undefined) return false;
    const before = reader.segment;
    next.readers += 1;
    reader.segment = next;
    reader.position = 0;
    await leaveSegment(before);
    return true;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#wake();
    await this.#releaseIfClosed();
  }

  /** A closed log keeps its files open while anybody reads: they may be deleted under a slow reader. */
  async #releaseIfClosed(): Promise<void> {
    if (!this.#closed || this.#readers.size > 0) return;
    for (const segment of this.#segments.splice(0)) {
      segment.retired = true;
      await releaseSegment(segment);
    }
  }
}

interface LogRecord {
  /** A stream's place in STREAMS, or EPOCH_RECORD. */
  readonly kind: number;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** The part of a record that lies behind `base`, counted from there. */
function* since(record: LogRecord, base: Offsets): Generator<LogChunk> {
  const stream = STREAMS[record.kind];
  if (stream === undefined) return;
  const early = Math.max(0, base[stream] - record.offset);
  if (early > 0 && early >= record.bytes.length) return;
  yield { stream, offset: record.offset + early - base[stream], bytes: record.bytes.subarray(early) };
}

const readRecord = async (reader: Reader): Promise<LogRecord | null> => {
  const { segment, position } = reader;
  if (position + HEADER_BYTES > segment.bytes) return null;
  const header = Buffer.alloc(HEADER_BYTES);
  await segment.file.read(header, 0, HEADER_BYTES, position);
  const length = header.readUInt32LE(9);
  if (position + HEADER_BYTES + length > segment.bytes) return null;
  const bytes = Buffer.alloc(length);
  await segment.file.read(bytes, 0, length, position + HEADER_BYTES);
  reader.position += HEADER_BYTES + length;
  return { kind: header.readUInt8(0), offset: Number(header.readBigUInt64LE(1)), bytes };
};

const writeRecord = async (segment: Segment, { kind, offset, bytes }: LogRecord): Promise<void> => {
  const record = Buffer.alloc(HEADER_BYTES + bytes.length);
  record.writeUInt8(kind, 0);
  record.writeBigUInt64LE(BigInt(offset), 1);
  record.writeUInt32LE(bytes.length, 9);
  record.set(bytes, HEADER_BYTES);
  for (let done = 0; done < record.length;) {
    done += (await segment.file.write(record, done, record.length - done, segment.bytes + done)).bytesWritten;
  }
  segment.bytes += record.length;
};

const writeEpoch = async (segment: Segment, base: Offsets): Promise<void> => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(base.stderr));
  await writeRecord(segment, { kind: EPOCH_RECORD, offset: base.stdout, bytes });
};

const SEGMENT = "log.";
const segmentPath = (directory: string, index: number): string => join(directory, `${SEGMENT}${index}`);

/** A boot begins a log in its VM's directory. */
export const isOfLog = (name: string): boolean => name.startsWith(SEGMENT);

const WRITE_FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW;

const openSegment = async (directory: string, index: number, flags: number): Promise<Segment> => {
  await using undo = new AsyncDisposableStack();
  const file = await open(segmentPath(directory, index), flags, 0o600);
  undo.defer(() => file.close());
  const { size } = await file.stat();
  undo.move();
  return { index, file, bytes: size, readers: 0, retired: false };
};

const leaveSegment = async (segment: Segment): Promise<void> => {
  segment.readers -= 1;
  await releaseSegment(segment);
};

/** Closes a retired segment's file when its last reader has gone. */
const releaseSegment = async (segment: Segment): Promise<void> => {
  if (segment.retired && segment.readers === 0 && segment.file.fd !== -1) await segment.file.close();
};

const listSegments = async (directory: string): Promise<number[]> => {
  const names = await readdir(directory).catch((error: unknown) => {
    if (hasCode(error, "ENOENT")) return [];
    throw error;
  });
  return names
    .flatMap((name) => SEGMENT_NAME.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((left, right) => left - right);
};

/** Walks the records of a segment; a record that is cut short ends it. */
const measureSegment = async (segment: Segment, found: { base: Offsets; ends: Offsets }): Promise<{ base: Offsets; ends: Offsets }> => {
  const reader: Reader = { holds: false, segment, position: 0 };
  let { base, ends } = found;
  for (let record = await readRecord(reader); record !== null; record = await readRecord(reader)) {
    const stream = STREAMS[record.kind];
    if (stream !== undefined) ends = { ...ends, [stream]: record.offset + record.bytes.length };
    else if (record.bytes.length === 8) base = { stdout: record.offset, stderr: Number(Buffer.from(record.bytes).readBigUInt64LE()) };
  }
  segment.bytes = reader.position;
  // with the older segments gone, an epoch's begin is the least that a stream has reached
  return { base, ends: { stdout: Math.max(ends.stdout, base.stdout), stderr: Math.max(ends.stderr, base.stderr) } };
};

const NOTHING: { base: Offsets; ends: Offsets } = { base: { stdout: 0, stderr: 0 }, ends: { stdout: 0, stderr: 0 } };

/** Logs as files in the VMs' own directories. */
export class FileLogs implements VmLogs {
  readonly #directoryOf: (id: VmId) => string;

  constructor(directoryOf: (id: VmId) => string) {
    this.#directoryOf = directoryOf;
  }

  async begin(id: VmId): Promise<VmLog> {
    const log = (await this.open(id)) ?? new FileLog(this.#directoryOf(id), [], NOTHING);
    return await orClose(log, () => log.beginEpoch());
  }

  async *readEnded(id: VmId, options: { signal: AbortSignal }): AsyncGenerator<LogChunk> {
    const log = await this.#open(id, READ_FLAGS);
    if (log === null) return;
    try {
      yield* log.read({ follow: false, holds: false, epochOnly: false, signal: options.signal });
    } finally {
      await log.close();
    }
  }

  async open(id: VmId): Promise<FileLog | null> {
    const log = await this.#open(id, WRITE_FLAGS);
    return log === null ? null : await orClose(log, () => log.dropTorn());
  }

  async #open(id: VmId, flags: number): Promise<FileLog | null> {
    const directory = this.#directoryOf(id);
    const indexes = await listSegments(directory);
    if (indexes.length === 0) return null;
    await using undo = new AsyncDisposableStack();
    const segments: Segment[] = [];
    let found = NOTHING;
    for (const index of indexes) {
      const segment = await openSegment(directory, index, flags);
      undo.defer(() => segment.file.close());
      found = await measureSegment(segment, found);
      segments.push(segment);
    }
    undo.move();
    return new FileLog(directory, segments, found);
  }
}

/** A file that nobody closes ends the process when it is collected. */
const orClose = async (log: FileLog, step: () => Promise<void>): Promise<FileLog> => {
  try {
    await step();
    return log;
  } catch (error) {
    await log.close();
    throw error;
  }
};
