/** Headers as they are written: ustar (POSIX.1-2017, pax), with PAX records where its fields are too small. */
import type { RawName, TarEntry, TarEntryType, TarTime } from "./entry.ts";
import { TarError } from "./errors.ts";
import { TAR_BLOCK_BYTES } from "./header.ts";
import { MAX_EXTENDED_HEADER_BYTES, MAX_PATH_BYTES, MAX_SPARSE_SEGMENTS } from "./limits.ts";
import { paddedLength, type Segment } from "./sparse.ts";

/**
 * An entry of a tar that is written. Everything that is said here is read back as it is; the path has 1 to 4,096 bytes, and that of a
 * directory has the slash at its end.
 */
export interface WrittenEntry extends Omit<TarEntry, "offset"> {
  /** The stretches of data of a sparse file, in order and apart; null for a file that is stored as it is. */
  readonly segments: readonly Segment[] | null;
}

const TYPE_FLAGS: Readonly<Record<TarEntryType, string>> = {
  file: "0",
  hardlink: "1",
  symlink: "2",
  character: "3",
  block: "4",
  directory: "5",
  fifo: "6",
};
const NAME_BYTES = 100;
const MAX_OCTAL_ID = 8 ** 7 - 1;
/** What eleven octal digits hold: sizes, and times from 1970 on. */
const MAX_OCTAL = 8 ** 11 - 1;

export const octal = (value: number, digits: number): string => `${value.toString(8).padStart(digits, "0")}\0`;

const ZEROS = Buffer.alloc(TAR_BLOCK_BYTES);

/** Zeros up to the next whole block; a view of what others see too. */
export const paddingAfter = (sizeBytes: number): Buffer => ZEROS.subarray(0, paddedLength(sizeBytes) - sizeBytes);

/** "LENGTH KEY=VALUE\n", where the length counts itself. */
export const encodePaxRecord = (key: string, value: Uint8Array): Buffer => {
  const head = Buffer.from(` ${key}=`, "latin1");
  const rest = head.length + value.length + 1;
  let length = rest + 1;
  while (String(length).length + rest !== length) length = String(length).length + rest;
  return Buffer.concat([Buffer.from(String(length)), head, value, Buffer.from("\n")]);
};

const SUM_AT = 148;
const SUM_BYTES = 8;

const sealHeader = (block: Buffer): Buffer => {
  let sum = SUM_BYTES * 0x20;
  for (let at = 0; at < TAR_BLOCK_BYTES; at += 1) sum += block[at] ?? 0;
  block.write(`${octal(sum, 6)} `, SUM_AT, "latin1");
  return block;
};

interface HeaderFields {
  readonly entry: Omit<WrittenEntry, "xattrs" | "segments">;
  readonly flag: string;
  readonly storedBytes: number;
}

/** Numbers that do not fit are 0 here: a PAX record says them. */
const headerBlock = ({ entry, flag, storedBytes }: HeaderFields): Buffer => {
  const block = Buffer.alloc(TAR_BLOCK_BYTES);
  const fitting = (value: number, max: number): number => (value >= 0 && value <= max ? value : 0);
  block.write(entry.path.slice(0, NAME_BYTES), 0, "latin1");
  block.write(octal(entry.mode, 7), 100, "latin1");
  block.write(octal(fitting(entry.uid, MAX_OCTAL_ID), 7), 108, "latin1");
  block.write(octal(fitting(entry.gid, MAX_OCTAL_ID), 7), 116, "latin1");
  block.write(octal(fitting(storedBytes, MAX_OCTAL), 11), 124, "latin1");
  block.write(octal(fitting(entry.modifiedAt.seconds, MAX_OCTAL), 11), 136, "latin1");
  block.write(flag, 156, "latin1");
  block.write(entry.linkPath.slice(0, NAME_BYTES), 157, "latin1");
  block.write("ustar\x0000", 257, "latin1");
  if (entry.type === "character" || entry.type === "block") {
    block.write(octal(entry.deviceMajor, 7), 329, "latin1");
    block.write(octal(entry.deviceMinor, 7), 337, "latin1");
  }
  return sealHeader(block);
};

/** Decimal seconds: half a second before 1970 is "-0.5". */
const timeText = ({ seconds, nanoseconds }: TarTime): string => {
  const fraction = (value: number): string => (value === 0 ? "" : `.${String(value).padStart(9, "0").replace(/0+$/, "")}`);
  if (seconds >= 0 || nanoseconds === 0) return `${seconds}${fraction(nanoseconds)}`;
  return `-${-(seconds + 1)}${fraction(1_000_000_000 - nanoseconds)}`;
};

/** An "=" would end the key; libarchive's form escapes it. */
const xattrRecord = (name: RawName, value: Uint8Array): Buffer => {
  if (!name.includes("=")) return encodePaxRecord(`SCHILY.xattr.${name}`, value);
  const escaped = name.replaceAll(/[%=]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
  return encodePaxRecord(`LIBARCHIVE.xattr.${escaped}`, Buffer.from(Buffer.from(value).toString("base64")));
};

const compareNames = (a: readonly [RawName, Uint8Array], b: readonly [RawName, Uint8Array]): number => (a[0] < b[0] ? -1 : 1);

const recordsOf = (entry: WrittenEntry, storedBytes: number): Buffer => {
  const records: Buffer[] = [];
  const say = (key: string, value: string): unknown => records.push(encodePaxRecord(key, Buffer.from(value, "latin1")));
  const { modifiedAt: time } = entry;
  if (entry.segments === null && entry.path.length > NAME_BYTES) say("path", entry.path);
  if (entry.linkPath.length > NAME_BYTES) say("linkpath", entry.linkPath);
  if (entry.uid > MAX_OCTAL_ID) say("uid", String(entry.uid));
  if (entry.gid > MAX_OCTAL_ID) say("gid", String(entry.gid));
  if (storedBytes > MAX_OCTAL) say("size", String(storedBytes));
  if (time.nanoseconds !== 0 || time.seconds < 0 || time.seconds > MAX_OCTAL) say("mtime", timeText(time));
  if (entry.segments !== null) {
    say("GNU.sparse.major", "1");
    say("GNU.sparse.minor", "0");
    say("GNU.sparse.name", entry.path);
    say("GNU.sparse.realsize", String(entry.sizeBytes));
  }
  for (const [name, value] of [...entry.xattrs].sort(compareNames)) records.push(xattrRecord(name, value));
  return records.length === 0 ? ZEROS.subarray(0, 0) : Buffer.concat(records);
};

/** The map of a sparse file (GNU PAX 1.0): a count, then an offset and a length for each stretch, one number a line. */
const sparseMap = (segments: readonly Segment[], sizeBytes: number): Buffer => {
  const last = segments.at(-1);
  const endsInHole = last === undefined || last.offset + last.length < sizeBytes;
  const all = endsInHole ? [...segments, { offset: sizeBytes, length: 0 }] : segments;
  if (all.length > MAX_SPARSE_SEGMENTS) throw new TarError("LIMIT", `a sparse file has more than ${MAX_SPARSE_SEGMENTS} segments`, 0);
  const lines = [all.length, ...all.flatMap(({ offset, length }) => [offset, length])];
  const text = Buffer.from(`${lines.join("\n")}\n`);
  return Buffer.concat([text, paddingAfter(text.length)]);
};

/** A name that is all of the header's own, for readers that do not know PAX. */
const plainName = (path: RawName): RawName => {
  const slash = path.lastIndexOf("/") + 1;
  return `${path.slice(0, slash)}GNUSparseFile.0/${path.slice(slash)}`;
};

const extendedHeader = (entry: WrittenEntry, records: Buffer): Buffer => {
  if (records.length > MAX_EXTENDED_HEADER_BYTES)
    throw new TarError("LIMIT", `an entry needs an extended header of ${records.length} bytes, more than ${MAX_EXTENDED_HEADER_BYTES}`, 0);
  const about = { ...entry, type: "file" as const, path: "PaxHeaders/entry", linkPath: "", mode: 0o644, uid: 0, gid: 0 };
  const time = { seconds: 0, nanoseconds: 0 };
  return headerBlock({ entry: { ...about, modifiedAt: time }, flag: "x", storedBytes: records.length });
};

/**
 * All that stands in front of an entry's content: extended header, header, and a sparse file's map. Behind it follow the bytes of the
 * content, or of its segments, and `paddingAfter` of their number. Throws TarError LIMIT.
 */
export const encodeEntry = (entry: WrittenEntry): Buffer => {
  if (entry.path.length > MAX_PATH_BYTES || entry.linkPath.length > MAX_PATH_BYTES)
    throw new TarError("LIMIT", `a name is longer than ${MAX_PATH_BYTES} bytes`, 0);
  const map = entry.segments === null ? null : sparseMap(entry.segments, entry.sizeBytes);
  const contentBytes = entry.segments?.reduce((sum, { length }) => sum + length, 0) ?? entry.sizeBytes;
  const storedBytes = contentBytes + (map?.length ?? 0);
  const records = recordsOf(entry, storedBytes);
  const named = map === null ? entry : { ...entry, path: plainName(entry.path) };
  const header = headerBlock({ entry: named, flag: TYPE_FLAGS[entry.type], storedBytes });
  if (records.length === 0) return header;
  return Buffer.concat([extendedHeader(entry, records), records, paddingAfter(records.length), header, ...(map === null ? [] : [map])]);
};

/** Two blocks of zeros end a tar. */
export const TAR_END_BYTES = 2 * TAR_BLOCK_BYTES;
