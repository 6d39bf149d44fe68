/** Archives in the "newc" format, as the kernel unpacks them (Documentation/driver-api/early-userspace/buffer-format.rst). */

interface Node {
  /** Relative to the root, without a leading slash: "dev/console". Its directories come before it. */
  readonly path: string;
  /** Permission bits. */
  readonly mode: number;
}

export type CpioEntry = Node &
  (
    | { readonly type: "file"; readonly bytes: Uint8Array }
    | { readonly type: "directory" }
    | { readonly type: "symlink"; readonly target: string }
    | { readonly type: "char"; readonly major: number; readonly minor: number }
  );

export class CpioError extends Error {
  override readonly name = "CpioError";
}

const TYPE_BITS = { file: 0o100000, directory: 0o040000, symlink: 0o120000, char: 0o020000 } as const;
const HEADER_BYTES = 110;
const MAX_FIELD = 0xffff_ffff;

const align4 = (length: number): number => (length + 3) & ~3;
const encoder = new TextEncoder();

/**
 * One archive, a function of its entries: owner root, time 0, inode numbers in the order given. Archives may be
 * joined end to end, and the kernel unpacks them all. Throws CpioError for a path or a size that the format has no room for.
 */
export const writeNewc = (entries: readonly CpioEntry[]): Uint8Array => {
  const parts = entries.map((entry, index) => encodeEntry(entry, index + 1));
  parts.push(encodeRecord({ ino: 0, mode: 0, path: "TRAILER!!!", content: new Uint8Array(), major: 0, minor: 0, links: 1 }));
  const bytes = new Uint8Array(align4(parts.reduce((total, part) => total + part.length, 0)));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
};

const encodeEntry = (entry: CpioEntry, ino: number): Uint8Array => {
  const { path, type } = entry;
  if (path === "" || path.startsWith("/") || path.includes("\0")) throw new CpioError(`${JSON.stringify(path)} is no path in an archive`);
  const [major, minor] = type === "char" ? [entry.major, entry.minor] : [0, 0];
  const content = type === "file" ? entry.bytes : type === "symlink" ? encoder.encode(entry.target) : new Uint8Array();
  return encodeRecord({
    ino,
    mode: TYPE_BITS[type] | (entry.mode & 0o7777),
    path,
    content,
    major,
    minor,
    links: type === "directory" ? 2 : 1,
  });
};

interface CpioRecord {
  readonly ino: number;
  readonly mode: number;
  readonly path: string;
  readonly content: Uint8Array;
  readonly major: number;
  readonly minor: number;
  readonly links: number;
}

const encodeRecord = (record: CpioRecord): Uint8Array => {
  const name = encoder.encode(`${record.path}\0`);
  const { content } = record;
  if (content.length > MAX_FIELD) throw new CpioError(`${record.path} is larger than 4 GiB`);
  const [uid, gid, mtime, devMajor, devMinor, check] = [0, 0, 0, 0, 0, 0];
  const fields = [
    record.ino,
    record.mode,
    uid,
    gid,
    record.links,
    mtime,
    content.length,
    devMajor,
    devMinor,
    record.major,
    record.minor,
    name.length,
    check,
  ];
  const header = encoder.encode(`070701${fields.map((field) => field.toString(16).toUpperCase().padStart(8, "0")).join("")}`);
  const contentAt = align4(HEADER_BYTES + name.length);
  const bytes = new Uint8Array(contentAt + align4(content.length));
  bytes.set(header, 0);
  bytes.set(name, HEADER_BYTES);
  bytes.set(content, contentAt);
  return bytes;
};
