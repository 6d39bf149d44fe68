/** A layer as GNU tar writes it: from files on a disk, as a container build has them. */
import { chmodSync, lchownSync, linkSync, lutimesSync, mkdirSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { runTool } from "@kiln/std/node";
import type { LayerEntry, Sparse } from "./stack.ts";

interface Options {
  readonly signal: AbortSignal;
}

const HOLE_BYTES = 2 ** 20;
const bytes = (text: string): Buffer => Buffer.from(text, "latin1");

/** Node takes a negative number for "now", but not a date before 1970. */
const timeOf = ({ mtime }: LayerEntry): number | Date => {
  const seconds = Number(mtime);
  return seconds < 0 ? new Date(Math.floor(seconds * 1000)) : seconds;
};

const parentsOf = (path: string): string[] => {
  const parts = path.split("/").slice(0, -1);
  return parts.map((_, index) => parts.slice(0, index + 1).join("/"));
};

/** The files of one layer. What cannot be on a disk at once (a path twice, a path below a file) is left out. */
class LayerFiles {
  readonly #root: Buffer;
  /** Entries by path; null for a directory that only leads to others. */
  readonly #made = new Map<string, LayerEntry | null>([[".", null]]);
  /** In the order of the archive. */
  readonly names: string[] = [];

  constructor(root: string) {
    this.#root = Buffer.from(`${root}/`);
  }

  async add(entry: LayerEntry, options: Options): Promise<void> {
    const existing = this.#made.get(entry.path);
    if (existing === null && entry.type === "directory") this.#name(entry);
    else if (existing === undefined && this.#makeParents(entry.path) && (await this.#make(entry, options))) this.#name(entry);
  }

  /** Owners, modes, attributes, and last the times: directories after what is in them. */
  async finish(options: Options): Promise<void> {
    const dump: string[] = [];
    for (const entry of this.#entries()) {
      const path = this.#path(entry.path);
      lchownSync(path, entry.uid, entry.gid);
      if (entry.type !== "symlink") chmodSync(path, entry.mode);
      const lines = Object.entries(entry.xattrs).map(([name, value]) => `${name}=0x${bytes(value).toString("hex")}`);
      if (lines.length > 0) dump.push([`# file: ${escapeName(entry.path)}`, ...lines, ""].join("\n"));
    }
    const cwd = this.#root.toString();
    await runTool("setfattr", ["-h", "--restore=-"], { ...options, cwd, stdin: bytes(dump.join("\n")) });
    for (const entry of this.#entries().reverse()) lutimesSync(this.#path(entry.path), 0, timeOf(entry));
  }

  #entries(): LayerEntry[] {
    const entries = [...this.#made.values()].filter((entry): entry is LayerEntry => entry !== null && entry.type !== "hardlink");
    return entries.sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  #path(path: string): Buffer {
    return Buffer.concat([this.#root, bytes(path)]);
  }

  #name(entry: LayerEntry): void {
    this.#made.set(entry.path, entry);
    this.names.push(entry.spelling.before.startsWith("/") ? entry.path : entry.spelling.before + entry.path);
  }

  #makeParents(path: string): boolean {
    for (const parent of parentsOf(path)) {
      const made = this.#made.get(parent);
      if (made !== undefined && made !== null && made.type !== "directory") return false;
      if (made !== undefined) continue;
      mkdirSync(this.#path(parent));
      this.#made.set(parent, null);
    }
    return true;
  }

  async #make(entry: LayerEntry, options: Options): Promise<boolean> {
    const path = this.#path(entry.path);
    switch (entry.type) {
      case "hardlink":
        return this.#link(entry, path);
      case "directory":
        mkdirSync(path);
        return true;
      case "symlink":
        symlinkSync(bytes(entry.link), path);
        return true;
      case "file":
        writeContent(path, entry);
        return true;
      default:
        return await this.#node(entry, options);
    }
  }

  async #node(entry: LayerEntry, options: Options): Promise<boolean> {
    const kind = { character: "c", block: "b", fifo: "p" }[entry.type as "character" | "block" | "fifo"];
    if (!/^[ -~]*$/.test(entry.path)) return false;
    const device = kind === "p" ? [] : entry.device.map(String);
    await runTool("mknod", ["--", `./${entry.path}`, kind, ...device], { ...options, cwd: this.#root.toString() });
    return true;
  }

  /** A target in a lower layer cannot be linked to here. */
  #link(entry: LayerEntry, path: Buffer): boolean {
    const target = this.#made.get(entry.link);
    if (target === undefined || target === null || target.type === "directory") return false;
    linkSync(this.#path(entry.link), path);
    return true;
  }
}

/** Whether a file begins with a hole, and how often it has its content; between two there is a hole. "many" are more than one header holds. */
const HOLES: Readonly<Record<Sparse, { readonly start: boolean; readonly contents: number }>> = {
  none: { start: false, contents: 1 },
  start: { start: true, contents: 1 },
  middle: { start: false, contents: 2 },
  end: { start: false, contents: 1 },
  only: { start: true, contents: 0 },
  many: { start: false, contents: 30 },
};

const writeContent = (path: Buffer, entry: LayerEntry): void => {
  const { start, contents } = HOLES[entry.sparse];
  writeFileSync(path, "");
  if (start) truncateSync(path, HOLE_BYTES);
  for (let written = 0; written < contents; written += 1) {
    writeFileSync(path, bytes(entry.content), { flag: "a" });
    if (written + 1 < contents || entry.sparse === "end") truncateSync(path, statSync(path).size + HOLE_BYTES);
  }
};

/** As getfattr writes names and setfattr reads them. */
const escapeName = (path: string): string =>
  path.replaceAll(/[^!-~]|\\/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, "0")}`);

const FORMATS = {
  "tar gnu": ["--format=gnu"],
  "tar gnu sparse": ["--format=gnu", "--sparse"],
  "tar ustar": ["--format=ustar"],
  "tar pax": ["--format=posix"],
  "tar pax 0.0": ["--format=posix", "--sparse-version=0.0"],
  "tar pax 0.1": ["--format=posix", "--sparse-version=0.1"],
} as const;
export type GnuTarFormat = keyof typeof FORMATS;

/** Writes the entries that can be files of one tree; `scratch` does not exist yet. */
export const writeGnuTar = async (
  entries: readonly LayerEntry[],
  layer: { readonly format: GnuTarFormat; readonly scratch: string; readonly target: string },
  options: Options,
): Promise<void> => {
  const root = join(layer.scratch, "files");
  await mkdir(root, { recursive: true });
  const files = new LayerFiles(root);
  for (const entry of entries) await files.add(entry, options);
  await files.finish(options);
  const pax = layer.format.startsWith("tar pax") ? ["--xattrs", "--xattrs-include=*", "--sparse"] : [];
  const how = [...FORMATS[layer.format], ...pax, "--numeric-owner", "--no-recursion"];
  const list = { ...options, stdin: bytes(files.names.join("\0")) };
  await runTool("tar", ["-C", root, ...how, "--null", "-T-", "-cf", layer.target], list);
};
