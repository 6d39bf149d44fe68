import { rawNameText } from "../../tar/index.ts";
import type { RawName } from "../../tar/index.ts";
import { readEntries } from "./directory.ts";
import type { NamedInode } from "./directory.ts";
import { Ext4ReadError } from "./errors.ts";
import type { Ext4Inode } from "./inode.ts";
import type { Meter } from "./limits.ts";
import type { Volume } from "./volume.ts";

export interface Ext4Entry {
  /** Raw bytes as characters, names joined with slashes, none in front. The root is "". */
  readonly path: RawName;
  /** The last name of the path. */
  readonly name: RawName;
  /** Hard links have the same `inode.number`. */
  readonly inode: Ext4Inode;
}

export interface WalkOptions {
  /** Entries that are passed over, with all below them. Not asked about where the walk begins. */
  readonly exclude?: (path: RawName) => boolean;
  /** The directory to begin with, whose path is then ""; by default the root. */
  readonly from?: Ext4Inode;
  /** Counts against the limits, for who does more than walk. */
  readonly meter?: Meter;
}

/** What one name costs in memory besides its bytes. */
const NAME_COST_BYTES = 96;
const DIRECTORY_COST_BYTES = 64;

interface OpenDirectory {
  readonly path: RawName;
  readonly entries: readonly NamedInode[];
  readonly heldBytes: number;
  next: number;
}

const byName = (a: NamedInode, b: NamedInode): number => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);

/** The names of a directory in order; each is one character for each byte, so that the order of characters is that of bytes. */
const openDirectory = (volume: Volume, { path, inode }: Ext4Entry, meter: Meter): OpenDirectory => {
  const entries: NamedInode[] = [];
  let heldBytes = 0;
  for (const entry of readEntries(volume, inode, meter)) {
    const cost = NAME_COST_BYTES + entry.name.length;
    meter.entry();
    meter.hold(cost);
    heldBytes += cost;
    entries.push(entry);
  }
  entries.sort(byName);
  for (const [index, { name }] of entries.entries()) {
    if (index > 0 && entries[index - 1]?.name === name)
      throw new Ext4ReadError("DIRECTORY", `directory ${rawNameText(`/${path}`)} has ${rawNameText(name)} twice`);
  }
  return { path, entries, heldBytes, next: 0 };
};

/** Numbers below the first are the file system's own: journal, quota and the like have no names. */
const checkNumber = ({ superblock }: Volume, number: number, path: RawName): void => {
  if (number < superblock.firstInode)
    throw new Ext4ReadError("TREE", `${rawNameText(`/${path}`)} leads to inode ${number}, which is the file system's own`);
};

/** See Ext4Reader.walk. `start` comes first, with the path "". */
export function* walkTree(
  volume: Volume,
  start: Ext4Inode,
  options: Pick<WalkOptions, "exclude"> & { readonly meter: Meter },
): Generator<Ext4Entry> {
  const { meter } = options;
  const { maxDepth, maxPathBytes } = volume.limits;
  const seen = new Set<number>();
  const enter = (entry: Ext4Entry): OpenDirectory => {
    if (seen.has(entry.inode.number))
      throw new Ext4ReadError(
        "TREE",
        `${rawNameText(`/${entry.path}`)} is a directory with a second name, or in a loop (inode ${entry.inode.number})`,
      );
    meter.hold(DIRECTORY_COST_BYTES);
    seen.add(entry.inode.number);
    return openDirectory(volume, entry, meter);
  };
  const first: Ext4Entry = { path: "", name: "", inode: start };
  meter.entry();
  yield first;
  const open = [enter(first)];
  for (let directory = open.at(-1); directory !== undefined; directory = open.at(-1)) {
    const entry = directory.entries[directory.next];
    directory.next += 1;
    if (entry === undefined) {
      meter.hold(-directory.heldBytes);
      open.pop();
      continue;
    }
    const path = directory.path === "" ? entry.name : `${directory.path}/${entry.name}`;
    if (path.length > maxPathBytes) throw new Ext4ReadError("LIMIT", `a path is longer than ${maxPathBytes} bytes: ${rawNameText(path)}`);
    if (options.exclude?.(path) === true) continue;
    checkNumber(volume, entry.inode, path);
    const inode = volume.inode(entry.inode);
    if (inode.links === 0) throw new Ext4ReadError("INODE", `${rawNameText(`/${path}`)} leads to inode ${inode.number}, which is deleted`);
    const found: Ext4Entry = { path, name: entry.name, inode };
    yield found;
    if (inode.type !== "directory") continue;
    if (open.length >= maxDepth) throw new Ext4ReadError("LIMIT", `a path is more than ${maxDepth} directories deep`);
    open.push(enter(found));
  }
}
