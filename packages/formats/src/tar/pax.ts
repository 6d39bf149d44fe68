import type { RawName, TarTime } from "./entry.ts";
import { TarError } from "./errors.ts";

/** The records of one extended header. Values are raw bytes as characters; sparse 0.0 repeats its keys, hence `sparse`. */
export interface PaxRecords {
  readonly values: ReadonlyMap<string, RawName>;
  readonly xattrs: ReadonlyMap<RawName, Uint8Array>;
  /** GNU.sparse.offset and GNU.sparse.numbytes in the order they came. */
  readonly sparse: readonly string[];
}

const XATTR_PREFIXES = ["SCHILY.xattr.", "LIBARCHIVE.xattr."] as const;

/** libarchive percent-encodes the name and puts the value in base64. */
const decodeLibarchive = (name: string, value: RawName): [RawName, Uint8Array] => [
  name.replaceAll(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
  Buffer.from(value, "base64"),
];

const addXattr = (xattrs: Map<RawName, Uint8Array>, key: string, value: RawName): boolean => {
  for (const prefix of XATTR_PREFIXES) {
    if (!key.startsWith(prefix)) continue;
    const name = key.slice(prefix.length);
    if (prefix === "SCHILY.xattr.") {
      xattrs.set(name, Buffer.from(value, "latin1"));
    } else {
      const [decoded, bytes] = decodeLibarchive(name, value);
      if (!xattrs.has(decoded)) xattrs.set(decoded, bytes);
    }
    return true;
  }
  return false;
};

/**
 * Reads "LENGTH KEY=VALUE\n" records (POSIX.1-2001 pax). A later record of a key takes the place of an earlier one; one without a value
 * takes it away, so that the header's own field counts. An attribute may be empty. Throws TarError PAX.
 */
export const parsePax = (bytes: Buffer, offset: number): PaxRecords => {
  const values = new Map<string, RawName>();
  const xattrs = new Map<RawName, Uint8Array>();
  const sparse: string[] = [];
  const broken = (): TarError => new TarError("PAX", "a record of an extended header is malformed", offset);
  let at = 0;
  while (at < bytes.length) {
    const space = bytes.indexOf(0x20, at);
    if (space === -1 || space - at > 10) {
      if (bytes[at] === 0) break;
      throw broken();
    }
    const digits = bytes.toString("latin1", at, space);
    const length = /^\d+$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    if (length < digits.length + 4 || end > bytes.length || bytes[end - 1] !== 0x0a) throw broken();
    const equals = bytes.indexOf(0x3d, space + 1);
    if (equals === -1 || equals >= end || equals === space + 1) throw broken();
    const key = bytes.toString("latin1", space + 1, equals);
    const value = bytes.toString("latin1", equals + 1, end - 1);
    at = end;
    if (key === "GNU.sparse.offset" || key === "GNU.sparse.numbytes") {
      sparse.push(value);
    } else if (!addXattr(xattrs, key, value)) {
      if (value === "" && key !== "GNU.sparse.map") values.delete(key);
      else values.set(key, value);
    }
  }
  return { values, xattrs, sparse };
};

/** "-12.5" is half a second after second -13. Throws TarError PAX. */
export const parsePaxTime = (value: string, offset: number): TarTime => {
  const match = /^(-?)(\d{1,15})(?:\.(\d*))?$/.exec(value);
  if (match === null) throw new TarError("PAX", "the mtime of an extended header is not a number", offset);
  const whole = Number(match[2]);
  const nanoseconds = Number((match[3] ?? "").slice(0, 9).padEnd(9, "0"));
  if (match[1] !== "-") return { seconds: whole, nanoseconds };
  return nanoseconds === 0 ? { seconds: 0 - whole, nanoseconds } : { seconds: -whole - 1, nanoseconds: 1_000_000_000 - nanoseconds };
};
