import type { RawName } from "./entry.ts";
import { TarError } from "./errors.ts";
import { parseNumber } from "./numbers.ts";
import type { Field } from "./numbers.ts";

export const TAR_BLOCK_BYTES = 512;

const field = (name: string, start: number, length: number): Field => ({ name, start, length });

const FIELDS = {
  mode: field("mode", 100, 8),
  uid: field("uid", 108, 8),
  gid: field("gid", 116, 8),
  size: field("size", 124, 12),
  mtime: field("mtime", 136, 12),
  checksum: field("checksum", 148, 8),
  deviceMajor: field("device major", 329, 8),
  deviceMinor: field("device minor", 337, 8),
} as const;

/** One 512-byte header as it stands, before extended headers change it. */
export interface RawHeader {
  readonly typeFlag: string;
  readonly name: RawName;
  readonly linkName: RawName;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
}

const text = (block: Buffer, start: number, length: number): RawName => {
  const end = block.indexOf(0, start);
  return block.toString("latin1", start, end === -1 || end > start + length ? start + length : end);
};

export const isZeroBlock = (block: Buffer): boolean => {
  for (let index = 0; index < TAR_BLOCK_BYTES; index += 1) if (block[index] !== 0) return false;
  return true;
};

/** Old tars summed signed bytes; both sums are accepted. */
const verifyChecksum = (block: Buffer, offset: number): void => {
  const stored = parseNumber(block, FIELDS.checksum, offset);
  const blank = FIELDS.checksum.length * 0x20;
  let unsigned = blank;
  let high = 0;
  for (let index = 0; index < TAR_BLOCK_BYTES; index += 1) {
    if (index === FIELDS.checksum.start) index += FIELDS.checksum.length;
    const byte = block[index] ?? 0;
    unsigned += byte;
    high += byte >> 7;
  }
  if (stored !== unsigned && stored !== unsigned - 256 * high) throw new TarError("CHECKSUM", "a header has a wrong checksum", offset);
};

/** POSIX ustar keeps the front of a long path apart; GNU's header has other fields there. */
const prefixOf = (block: Buffer): RawName => {
  if (block.toString("latin1", 257, 263) !== "ustar\0") return "";
  const isStar = block.toString("latin1", 508, 512) === "tar\0";
  return text(block, 345, isStar ? 131 : 155);
};

/** Device numbers exist from ustar on; before it the bytes mean nothing. */
const hasDevices = (block: Buffer): boolean => block.toString("latin1", 257, 262) === "ustar";

/** Reads and checks one header (ustar, GNU, star or v7). Throws TarError CHECKSUM or NUMBER. */
export const parseHeader = (block: Buffer, offset: number): RawHeader => {
  verifyChecksum(block, offset);
  const prefix = prefixOf(block);
  const name = text(block, 0, 100);
  const devices = hasDevices(block);
  return {
    typeFlag: String.fromCharCode(block[156] ?? 0),
    name: prefix === "" ? name : `${prefix}/${name}`,
    linkName: text(block, 157, 100),
    mode: parseNumber(block, FIELDS.mode, offset),
    uid: parseNumber(block, FIELDS.uid, offset),
    gid: parseNumber(block, FIELDS.gid, offset),
    size: parseNumber(block, FIELDS.size, offset),
    mtime: parseNumber(block, FIELDS.mtime, offset),
    deviceMajor: devices ? parseNumber(block, FIELDS.deviceMajor, offset) : 0,
    deviceMinor: devices ? parseNumber(block, FIELDS.deviceMinor, offset) : 0,
  };
};
