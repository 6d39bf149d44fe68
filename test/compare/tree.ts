/** What the kernel says of every entry below a directory. Nothing here is Kiln's: it looks at both sides alike. */
import { createHash } from "node:crypto";
import { closeSync, lstatSync, openSync, readSync, readdirSync, readlinkSync, type BigIntStats } from "node:fs";
import { runTool } from "@kiln/std/node";

/** What is compared of an entry, as text; null where it does not apply to its type. */
export interface Entry {
  readonly type: string;
  readonly mode: string | null;
  readonly uid: string;
  readonly gid: string;
  /** Not of directories: how large one is says how a file system stores it. */
  readonly size: string | null;
  /** Nanoseconds since 1970. */
  readonly mtime: string;
  /** "name=0xhex", sorted, a line each. */
  readonly xattrs: string;
  /** The first name, by bytes, of all that lead to the inode, and how many there are. */
  readonly links: string | null;
  /** sha256 of a file's content. */
  readonly content: string | null;
  readonly device: string | null;
  readonly target: string | null;
}

export type Check = keyof Entry;
/** Entries by their path from "." on, raw bytes as characters. */
export type Tree = ReadonlyMap<string, Entry>;

const TYPES = [
  ["isFile", "file"],
  ["isDirectory", "directory"],
  ["isSymbolicLink", "symlink"],
  ["isCharacterDevice", "character device"],
  ["isBlockDevice", "block device"],
  ["isFIFO", "fifo"],
  ["isSocket", "socket"],
] as const;

const BUFFER = Buffer.allocUnsafe(1 << 20);

const hashFile = (path: Buffer): string => {
  const hash = createHash("sha256");
  const fd = openSync(path, "r");
  try {
    for (;;) {
      const length = readSync(fd, BUFFER, 0, BUFFER.length, null);
      if (length === 0) return hash.digest("hex");
      hash.update(BUFFER.subarray(0, length));
    }
  } finally {
    closeSync(fd);
  }
};

/** Attributes of all entries below a directory. */
const listXattrs = async (root: string, options: { signal: AbortSignal }): Promise<Map<string, string>> => {
  const list = ["-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "--absolute-names", "."];
  const { stdout } = await runTool("getfattr", list, { ...options, cwd: root, maxOutputBytes: 1 << 28 });
  const all = new Map<string, string>();
  for (const block of Buffer.from(stdout).toString("latin1").split("\n\n")) {
    const [header, ...lines] = block.split("\n").filter((line) => line !== "");
    if (header === undefined) continue;
    const escaped = header.replace(/^# file: /, "");
    const path = escaped.replaceAll(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 8)));
    all.set(path, lines.sort().join("\n"));
  }
  return all;
};

const isDevice = (type: string): boolean => type.endsWith("device");

const describe = (path: Buffer, stat: BigIntStats, xattrs: string): Entry => {
  const type = TYPES.find(([test]) => stat[test]())?.[1] ?? "unknown";
  return {
    type,
    mode: type === "symlink" ? null : (Number(stat.mode) & 0o7777).toString(8),
    uid: String(stat.uid),
    gid: String(stat.gid),
    size: type === "directory" ? null : String(stat.size),
    mtime: String(stat.mtimeNs),
    xattrs,
    links: type === "directory" ? null : `${stat.dev}:${stat.ino}`,
    content: type === "file" ? hashFile(path) : null,
    device: isDevice(type) ? `${stat.rdev >> 8n}:${stat.rdev & 255n}` : null,
    target: type === "symlink" ? readlinkSync(path, { encoding: "buffer" }).toString("latin1") : null,
  };
};

/** Replaces inodes, which differ between file systems, by what they group. */
const nameGroups = (entries: Map<string, Entry>): Tree => {
  const groups = new Map<string, string[]>();
  for (const [path, { links }] of entries) if (links !== null) groups.set(links, [...(groups.get(links) ?? []), path]);
  for (const [path, entry] of entries) {
    if (entry.links === null) continue;
    const names = groups.get(entry.links) ?? [];
    entries.set(path, { ...entry, links: `${names[0]} and ${names.length - 1} more` });
  }
  return entries;
};

/** Every entry below `root`, and the root itself (".") . */
export const listTree = async (root: string, options: { signal: AbortSignal }): Promise<Tree> => {
  const xattrs = await listXattrs(root, options);
  const entries = new Map<string, Entry>();
  const visit = (path: string): void => {
    const full = Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, "latin1")]);
    const entry = describe(full, lstatSync(full, { bigint: true }), xattrs.get(path) ?? "");
    entries.set(path, entry);
    if (entry.type !== "directory") return;
    const names = readdirSync(full, { encoding: "buffer" }).map((name) => name.toString("latin1"));
    for (const name of names.sort()) visit(`${path}/${name}`);
  };
  visit(".");
  return nameGroups(entries);
};
