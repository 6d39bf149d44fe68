import { TarError } from "./errors.ts";
import { TAR_BLOCK_BYTES } from "./header.ts";
import { MAX_FILE_BYTES, MAX_SPARSE_SEGMENTS } from "./limits.ts";
import { parseDecimal, parseNumber } from "./numbers.ts";
import type { PaxRecords } from "./pax.ts";

/** A stretch of stored data of a sparse file. */
export interface Segment {
  readonly offset: number;
  readonly length: number;
}

/** The segments are in order, do not overlap, fit the file, and are what is stored. Throws TarError SPARSE or LIMIT. */
export const checkSegments = (segments: readonly Segment[], sizes: { fileBytes: number; storedBytes: number }, offset: number): void => {
  if (segments.length > MAX_SPARSE_SEGMENTS)
    throw new TarError("LIMIT", `a sparse file has more than ${MAX_SPARSE_SEGMENTS} segments`, offset);
  if (sizes.fileBytes > MAX_FILE_BYTES) throw new TarError("LIMIT", "a sparse file is larger than a file can be", offset);
  let position = 0;
  let stored = 0;
  for (const segment of segments) {
    if (segment.offset < position || segment.length < 0) throw new TarError("SPARSE", "the segments of a sparse file overlap", offset);
    position = segment.offset + segment.length;
    stored += segment.length;
  }
  if (position > sizes.fileBytes) throw new TarError("SPARSE", "a segment of a sparse file lies behind its end", offset);
  if (stored !== sizes.storedBytes) throw new TarError("SPARSE", "the segments of a sparse file are not what is stored", offset);
};

/** Pairs of offset and length, the way PAX 0.0, 0.1 and 1.0 list them. */
const parsePairs = (numbers: readonly string[], offset: number): Segment[] => {
  if (numbers.length % 2 !== 0) throw new TarError("SPARSE", "a sparse map has an odd number of values", offset);
  const segments: Segment[] = [];
  for (let index = 0; index < numbers.length; index += 2) {
    segments.push({
      offset: parseDecimal(numbers[index] ?? "", "sparse map", offset),
      length: parseDecimal(numbers[index + 1] ?? "", "sparse map", offset),
    });
  }
  return segments;
};

/** The map of GNU PAX sparse 0.0 and 0.1; null where the records have none. */
export const paxSparseMap = (pax: PaxRecords, offset: number): Segment[] | null => {
  const map = pax.values.get("GNU.sparse.map");
  if (map !== undefined) return parsePairs(map === "" ? [] : map.split(","), offset);
  if (pax.sparse.length > 0 || pax.values.has("GNU.sparse.numblocks")) return parsePairs(pax.sparse, offset);
  return null;
};

export const isPaxSparse1 = (pax: PaxRecords): boolean =>
  pax.values.get("GNU.sparse.major") === "1" && pax.values.get("GNU.sparse.minor") === "0";

const NEWLINE = 0x0a;
/** A number of a map has at most 16 digits. */
const LINE_BYTES = 17;

/** Collects the map of GNU PAX sparse 1.0, which stands in front of the content: a count, then numbers, one a line, padded to 512. */
export class Sparse1Map {
  readonly #blocks: Buffer[] = [];
  readonly #offset: number;
  #lines = 0;
  #linesNeeded: number | null = null;

  constructor(offset: number) {
    this.#offset = offset;
  }

  get lengthBytes(): number {
    return this.#blocks.length * TAR_BLOCK_BYTES;
  }

  /** Takes the next 512 bytes; returns the map once it is complete. Throws TarError SPARSE, PAX or LIMIT. */
  push(block: Buffer): Segment[] | null {
    this.#blocks.push(Buffer.from(block));
    this.#linesNeeded ??= this.#readCount(block);
    for (let at = block.indexOf(NEWLINE); at !== -1; at = block.indexOf(NEWLINE, at + 1)) this.#lines += 1;
    if (this.#lines < this.#linesNeeded) {
      if (this.lengthBytes > this.#linesNeeded * LINE_BYTES)
        throw new TarError("SPARSE", "a sparse map has lines without end", this.#offset);
      return null;
    }
    const lines = Buffer.concat(this.#blocks).toString("latin1").split("\n", this.#linesNeeded);
    return parsePairs(lines.slice(1), this.#offset);
  }

  #readCount(block: Buffer): number {
    const end = block.indexOf(NEWLINE);
    const count = parseDecimal(end === -1 ? "" : block.toString("latin1", 0, end), "sparse map", this.#offset);
    if (count > MAX_SPARSE_SEGMENTS)
      throw new TarError("LIMIT", `a sparse file has more than ${MAX_SPARSE_SEGMENTS} segments`, this.#offset);
    return 1 + count * 2;
  }
}

const readOldEntries = (block: Buffer, from: { start: number; count: number }, offset: number): Segment[] => {
  const segments: Segment[] = [];
  for (let index = 0; index < from.count; index += 1) {
    const start = from.start + index * 24;
    if (block[start] === 0) break;
    segments.push({
      offset: parseNumber(block, { name: "sparse offset", start, length: 12 }, offset),
      length: parseNumber(block, { name: "sparse length", start: start + 12, length: 12 }, offset),
    });
  }
  return segments;
};

export interface OldSparsePart {
  readonly segments: readonly Segment[];
  readonly more: boolean;
}

/** The part of an old GNU sparse map that stands in the header itself ("S" entries), and the file's real size. */
export const oldSparseHeader = (block: Buffer, offset: number): OldSparsePart & { fileBytes: number } => ({
  segments: readOldEntries(block, { start: 386, count: 4 }, offset),
  more: block[482] !== 0,
  fileBytes: parseNumber(block, { name: "real size", start: 483, length: 12 }, offset),
});

/** One of the 512-byte blocks that continue an old GNU sparse map. */
export const oldSparseExtension = (block: Buffer, offset: number): OldSparsePart => ({
  segments: readOldEntries(block, { start: 0, count: 21 }, offset),
  more: block[504] !== 0,
});

export const paddedLength = (length: number): number => Math.ceil(length / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
