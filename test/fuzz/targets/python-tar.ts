/** Python's tarfile as an oracle: what the parser accepts it lists too, with the same names, types, sizes, modes and owners. */
import { spawn, spawnSync, type ChildProcessByStdio } from "node:child_process";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import type { TarEntry } from "../../../packages/formats/src/tar/index.ts";
import { mustHold } from "../engine/target.ts";

type Member = readonly [name: string, type: string, link: string, size: number, mode: number, uid: number, gid: number];

interface Listing {
  readonly members: readonly Member[];
  readonly error: string | null;
}

interface Process {
  readonly child: ChildProcessByStdio<Writable, Readable, null>;
  readonly lines: AsyncIterator<string>;
  readonly reader: Interface;
}

const TYPES: Readonly<Record<string, TarEntry["type"]>> = {
  ...{ "0": "file", "\0": "file", "7": "file", S: "file" },
  ...{ "1": "hardlink", "2": "symlink", "3": "character", "4": "block", "5": "directory", "6": "fifo" },
};

export class PythonTar {
  #process: Process | null = null;
  #isThere: boolean | null = null;

  async check(tar: Buffer, entries: readonly TarEntry[]): Promise<void> {
    this.#isThere ??= spawnSync("python3", ["--version"]).status === 0;
    if (!this.#isThere) return;
    const listing = await this.#ask(tar);
    if (listing.error !== null || isKnownDifference(tar, entries)) return;
    for (const [index, member] of listing.members.entries()) {
      const blocks = blocksOf(tar, entries, index);
      if (hasRepeatedHeaders(blocks) || hasForeignPrefix(blocks) || hasLateNumber(blocks)) continue;
      const ours = describeOurs(entries[index]);
      const theirs = describeTheirs(member, entries[index]);
      mustHold(ours === theirs, () => `entry ${index} is ${ours}, and to Python ${theirs}`);
    }
  }

  close(): void {
    this.#process?.reader.close();
    this.#process?.child.stdin.end();
    this.#process = null;
  }

  async #ask(tar: Buffer): Promise<Listing> {
    this.#process ??= start();
    const length = Buffer.alloc(4);
    length.writeUInt32LE(tar.length);
    this.#process.child.stdin.write(Buffer.concat([length, tar]));
    const { value } = (await this.#process.lines.next()) as { value: string | undefined };
    return JSON.parse(value ?? "null") as Listing;
  }
}

const start = (): Process => {
  const child = spawn("python3", [new URL("list-tar.py", import.meta.url).pathname], { stdio: ["pipe", "pipe", "inherit"] });
  const reader = createInterface({ input: child.stdout });
  return { child, reader, lines: reader[Symbol.asyncIterator]() };
};

/**
 * Where the two differ for a reason:
 * - a global header: Python applies it to all that follows, containerd and we do not;
 * - an entry without a name, or one of a zero block's: it ends the archive or is nothing to one of both;
 * - sparse files: Python gives the size that is stored where the map is malformed in a way that it does not look at;
 * - PAX records that only one of both knows (sparse names, an mtime with a sign), or that take a value away;
 * - "0" with a name that ends in a slash: GNU tar and we see a directory, Python a file.
 */
const isKnownDifference = (tar: Buffer, entries: readonly TarEntry[]): boolean => {
  const text = tar.toString("latin1");
  return (
    /GNU\.sparse|=\n|hdrcharset|SCHILY\.|LIBARCHIVE\./.test(text) || hasFlag(tar, "gSVN") || entries.some(({ path }) => path.endsWith("/"))
  );
};

/** The blocks of one entry: its headers, and its content. */
const blocksOf = (tar: Buffer, entries: readonly TarEntry[], index: number): Buffer[] => {
  const [from, to] = [entries[index]?.offset ?? 0, entries[index + 1]?.offset ?? tar.length];
  return Array.from({ length: Math.ceil((to - from) / 512) }, (_, block) => tar.subarray(from + block * 512, from + block * 512 + 512));
};

/** Of two extended headers of a kind before one entry, Python takes the first; GNU tar and we the second. */
const hasRepeatedHeaders = (blocks: readonly Buffer[]): boolean =>
  ["L", "K", "x"].some((flag) => blocks.filter((block) => block[156] === flag.charCodeAt(0)).length > 1);

/** Python takes a prefix from every header, GNU tar and we only from one of POSIX. */
const hasForeignPrefix = (blocks: readonly Buffer[]): boolean =>
  blocks.some((block) => block[345] !== 0 && block.toString("latin1", 257, 263) !== "ustar\0");

/** A number behind NULs is none to Python and GNU tar, and one to Go's archive/tar, with which containerd and umoci read layers, and to us. */
const hasLateNumber = (blocks: readonly Buffer[]): boolean =>
  blocks.some((block) => NUMBERS.some(([from, to]) => block[from] === 0 && block.subarray(from, to).some((byte) => byte !== 0)));

/** Mode, uid, gid, size, mtime. */
const NUMBERS = [
  [100, 108],
  [108, 116],
  [116, 124],
  [124, 136],
  [136, 148],
] as const;

const hasFlag = (tar: Buffer, flags: string): boolean => {
  for (let at = 156; at < tar.length; at += 512) if (flags.includes(String.fromCharCode(tar[at] ?? 0))) return true;
  return false;
};

const describeOurs = (entry: TarEntry | undefined): string =>
  entry === undefined
    ? "nothing"
    : JSON.stringify([entry.path, entry.type, entry.linkPath, entry.sizeBytes, entry.mode, entry.uid, entry.gid]);

/** Python keeps a link's size field, and the link field of what is no link. */
const describeTheirs = ([name, flag, link, size, mode, uid, gid]: Member, ours: TarEntry | undefined): string => {
  const type = TYPES[flag] ?? flag;
  const isLink = type === "hardlink" || type === "symlink";
  return JSON.stringify([
    ours !== undefined && `${name}/` === ours.path ? ours.path : name,
    type,
    isLink ? link : "",
    type === "file" ? size : 0,
    mode & 0o7777,
    uid,
    gid,
  ]);
};
