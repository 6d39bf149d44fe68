import type { RawName, TarEntry, TarEntryType, TarTime } from "./entry.ts";
import { rawNameText } from "./entry.ts";
import { TarError } from "./errors.ts";
import type { RawHeader } from "./header.ts";
import { MAX_FILE_BYTES, MAX_PATH_BYTES } from "./limits.ts";
import { parseDecimal } from "./numbers.ts";
import { parsePaxTime } from "./pax.ts";
import type { PaxRecords } from "./pax.ts";

/** What the extended headers before an entry said of it. */
interface Said {
  /** Whether there were any: then an entry has to follow. */
  readonly pending: boolean;
  /** Where the first of them, or the entry's own header, begins. */
  readonly offset: number;
  readonly pax: PaxRecords | null;
  readonly longName: RawName | null;
  readonly longLink: RawName | null;
}

export interface Extensions extends Said {
  readonly size: number | null;
  readonly sparseFileBytes: number | null;
}

const NO_XATTRS: ReadonlyMap<RawName, Uint8Array> = new Map();

export const noExtensions = (offset: number): Extensions => extend({ pending: false, offset, pax: null, longName: null, longLink: null });

/** Adds the numbers that PAX records hold. Throws TarError PAX. */
export const extend = (said: Said): Extensions => {
  const number = (key: string): number | null => {
    const value = said.pax?.values.get(key);
    return value === undefined ? null : parseDecimal(value, key, said.offset);
  };
  return { ...said, size: number("size"), sparseFileBytes: number("GNU.sparse.realsize") ?? number("GNU.sparse.size") };
};

const typeOf = (header: RawHeader, path: RawName, offset: number): TarEntryType => {
  switch (header.typeFlag) {
    case "\0":
    case "0":
    case "7":
    case "S":
      return path.endsWith("/") ? "directory" : "file";
    case "1":
      return "hardlink";
    case "2":
      return "symlink";
    case "3":
      return "character";
    case "4":
      return "block";
    case "5":
      return "directory";
    case "6":
      return "fifo";
    default:
      throw new TarError("TYPE", `an entry has the unknown type ${rawNameText(header.typeFlag)}`, offset);
  }
};

const modifiedAt = (header: RawHeader, extensions: Extensions): TarTime => {
  const value = extensions.pax?.values.get("mtime");
  return value === undefined ? { seconds: header.mtime, nanoseconds: 0 } : parsePaxTime(value, extensions.offset);
};

/** The number behind it stands for no owner at all: no file can have it. */
const MAX_ID = 0xffff_fffe;

const idOf = (key: "uid" | "gid", header: RawHeader, extensions: Extensions): number => {
  const value = extensions.pax?.values.get(key);
  const id = value === undefined ? header[key] : parseDecimal(value, key, extensions.offset);
  if (id < 0 || id > MAX_ID) throw new TarError("NUMBER", `the ${key} of an entry is out of range`, extensions.offset);
  return id;
};

/** A PAX path with a zero byte would mean different files to different readers. */
const checkName = (name: RawName, offset: number): RawName => {
  if (name.length > MAX_PATH_BYTES) throw new TarError("LIMIT", `a name is longer than ${MAX_PATH_BYTES} bytes`, offset);
  if (name.includes("\0")) throw new TarError("PAX", "a name has a zero byte", offset);
  return name;
};

/** Puts a header and its extended headers together. Throws TarError. */
export const describeEntry = (header: RawHeader, extensions: Extensions, fileBytes: number): TarEntry => {
  const { pax, offset } = extensions;
  const path = checkName(pax?.values.get("GNU.sparse.name") ?? pax?.values.get("path") ?? extensions.longName ?? header.name, offset);
  const type = typeOf(header, path, offset);
  const isLink = type === "symlink" || type === "hardlink";
  const isDevice = type === "character" || type === "block";
  const sizeBytes = type === "file" ? fileBytes : 0;
  if (sizeBytes > MAX_FILE_BYTES) throw new TarError("LIMIT", "a file is larger than a file can be", offset);
  return {
    type,
    path,
    linkPath: isLink ? checkName(pax?.values.get("linkpath") ?? extensions.longLink ?? header.linkName, offset) : "",
    mode: header.mode & 0o7777,
    uid: idOf("uid", header, extensions),
    gid: idOf("gid", header, extensions),
    sizeBytes,
    modifiedAt: modifiedAt(header, extensions),
    deviceMajor: isDevice ? header.deviceMajor : 0,
    deviceMinor: isDevice ? header.deviceMinor : 0,
    xattrs: pax?.xattrs ?? NO_XATTRS,
    offset,
  };
};
