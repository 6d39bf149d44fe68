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
 * bytes. The daemon's death can cut the last record short; it is dropped at the next open, and the guest, which was
 * not told that it arrived, sends it again.
 */
const HEADER_BYTES = 13;
/** Two of them are kept: 32 MiB of output for each VM. */
const SEGMENT_BYTES = 16 * 2 ** 20;
const STREAMS: readonly OutputStream[] = ["stdout", "stderr"];
const SEGMENT_NAME = /^log\.(\d{1,9})$/;

interface Segment {
  readonly index: number;
  readonly file: FileHandle;
  bytes: number;
  readers: number;
  /** Closed when its last reader has gone. */
  retired: boolean;
}

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
  ends: Record<OutputStream, number>;

  constructor(directory: string, segments: Segment[], ends: Record<OutputStream, number>) {
    this.#directory = directory;
    this.#segments = segments;
    this.ends = ends;
  }

  async append(chunk: LogChunk): Promise<void> {
    const known = this.ends[chunk.stream] - chunk.offset;
    if (known >= chunk.bytes.length) return;
    const bytes = known > 0 ? chunk.bytes.subarray(known) : chunk.bytes;
    const offset = chunk.offset + Math.max(0, known);
    const segment = await this.#segmentFor(HEADER_BYTES + bytes.length);
    const record = Buffer.alloc(HEADER_BYTES + bytes.length);
    record.writeUInt8(STREAMS.indexOf(chunk.stream), 0);
    record.writeBigUInt64LE(BigInt(offset), 1);
    record.writeUInt32LE(bytes.length, 9);
    record.set(bytes, HEADER_BYTES);
    await segment.file.write(record, 0, record.length, segment.bytes);
    segment.bytes += record.length;
    this.ends = { ...this.ends, [chunk.stream]: offset + bytes.length };
    this.#wake();
  }

  async #segmentFor(bytes: number): Promise<Segment> {
    const last = this.#segments.at(-1);
    if (last !== undefined && (last.bytes === 0 || last.bytes + bytes <= SEGMENT_BYTES)) return last;
    const oldest = this.#segments.length > 1 ? this.#segments[0] : undefined;
    if (oldest !== undefined) await this.#retire(oldest);
    const next = await openSegment(this.#directory, (last?.index ?? -1) + 1);
    this.#segments.push(next);
    return next;
  }

  /** Waits for readers who hold, then removes the oldest segment. */
  async #retire(segment: Segment): Promise<void> {
    while ([...this.#readers].some((reader) => reader.holds && reader.segment === segment)) await this.#nextChange();
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

  async *read(options: { follow: boolean; holds: boolean; signal: AbortSignal }): AsyncGenerator<LogChunk> {
    const first = this.#segments[0];
    if (first === undefined) return;
    const reader: Reader = { holds: options.holds, segment: first, position: 0 };
    first.readers += 1;
    this.#readers.add(reader);
    try {
      for (;;) {
        const changed = this.#nextChange();
        const record = await readRecord(reader);
        if (record !== null) yield record;
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

const readRecord = async (reader: Reader): Promise<LogChunk | null> => {
  const { segment, position } = reader;
  if (position + HEADER_BYTES > segment.bytes) return null;
  const header = Buffer.alloc(HEADER_BYTES);
  await segment.file.read(header, 0, HEADER_BYTES, position);
  const bytes = Buffer.alloc(header.readUInt32LE(9));
  await segment.file.read(bytes, 0, bytes.length, position + HEADER_BYTES);
  reader.position += HEADER_BYTES + bytes.length;
  const stream = header[0] === 0 ? "stdout" : "stderr";
  return { stream, offset: Number(header.readBigUInt64LE(1)), bytes };
};

const segmentPath = (directory: string, index: number): string => join(directory, `log.${index}`);

const openSegment = async (directory: string, index: number): Promise<Segment> => {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
  const file = await open(segmentPath(directory, index), flags, 0o600);
  return { index, file, bytes: (await file.stat()).size, readers: 0, retired: false };
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
const measureSegment = async (segment: Segment, ends: Record<OutputStream, number>): Promise<void> => {
  const reader: Reader = { holds: false, segment, position: 0 };
  let whole = 0;
  for (let record = await readRecord(reader); record !== null && reader.position <= segment.bytes; record = await readRecord(reader)) {
    ends[record.stream] = record.offset + record.bytes.length;
    whole = reader.position;
  }
  if (whole < segment.bytes) await segment.file.truncate(whole);
  segment.bytes = whole;
};

/** Logs as files in the VMs' own directories. */
export class FileLogs implements VmLogs {
  readonly #directoryOf: (id: VmId) => string;

  constructor(directoryOf: (id: VmId) => string) {
    this.#directoryOf = directoryOf;
  }

  async create(id: VmId): Promise<VmLog> {
    const directory = this.#directoryOf(id);
    for (const index of await listSegments(directory)) await rm(segmentPath(directory, index), { force: true });
    return new FileLog(directory, [await openSegment(directory, 0)], { stdout: 0, stderr: 0 });
  }

  async *readEnded(id: VmId, options: { signal: AbortSignal }): AsyncGenerator<LogChunk> {
    const log = await this.open(id);
    if (log === null) return;
    try {
      yield* log.read({ follow: false, holds: false, signal: options.signal });
    } finally {
      await log.close();
    }
  }

  async open(id: VmId): Promise<VmLog | null> {
    const directory = this.#directoryOf(id);
    const indexes = await listSegments(directory);
    if (indexes.length === 0) return null;
    const segments: Segment[] = [];
    const ends = { stdout: 0, stderr: 0 };
    for (const index of indexes) {
      const segment = await openSegment(directory, index);
      await measureSegment(segment, ends);
      segments.push(segment);
    }
    return new FileLog(directory, segments, ends);
  }
}
