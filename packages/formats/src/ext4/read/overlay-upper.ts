/** The upper directory of an overlay: the kernel's Documentation/filesystems/overlayfs.rst, and image-spec's layer.md for what becomes of it. */
import { rawNameText } from "../../tar/index.ts";
import type { RawName } from "../../tar/index.ts";
import { Ext4ReadError } from "./errors.ts";
import type { Ext4Inode } from "./inode.ts";
import { LayerWriter, inBatches } from "./layer-writer.ts";
import { Meter } from "./limits.ts";
import type { Ext4Reader } from "./reader.ts";
import type { Ext4Entry } from "./walk.ts";

export interface OverlayUpperOptions {
  /** The names that lead from the root to the upper directory. */
  readonly upper: readonly RawName[];
  /** What is not the image's, by its path below the upper directory. */
  readonly exclude?: (path: RawName) => boolean;
  /** The overlay is mounted with `userxattr`: then its markers are user.overlay.*, and those alone. By default trusted.overlay.*. */
  readonly userxattr?: boolean;
}

/** How the overlay keeps its books; without it they mean nothing, and the entry is whole. */
const BOOKKEEPING: ReadonlySet<string> = new Set(["origin", "impure", "nlink", "upper", "uuid", "protattr"]);
const OPAQUE = "opaque";
const WHITEOUT = "whiteout";

/** What an entry's attributes say to the overlay, and those that programs see through it. */
interface Marked {
  readonly xattrs: ReadonlyMap<RawName, Uint8Array>;
  readonly opaque: "y" | "x" | null;
  readonly whiteout: boolean;
}

const readMarks = (entry: Ext4Entry, all: Iterable<{ name: RawName; value: Uint8Array }>, prefix: string): Marked => {
  const xattrs = new Map<RawName, Uint8Array>();
  let opaque: Marked["opaque"] = null;
  let whiteout = false;
  for (const { name, value } of all) {
    const mark = name.startsWith(prefix) ? name.slice(prefix.length) : null;
    if (mark === null) {
      xattrs.set(name, value);
    } else if (mark === OPAQUE) {
      const text = Buffer.from(value).toString("latin1");
      opaque = text === "y" || text === "x" ? text : null;
    } else if (mark === WHITEOUT) {
      whiteout = true;
    } else if (!BOOKKEEPING.has(mark)) {
      throw new Ext4ReadError(
        "OVERLAY_MARKER",
        `${rawNameText(`/${entry.path}`)} has the attribute ${name}: what it is lies elsewhere, which a layer cannot say`,
      );
    }
  }
  return { xattrs, opaque, whiteout };
};

const isWhiteoutDevice = ({ type, rdev }: Ext4Inode): boolean => type === "character" && rdev.major === 0 && rdev.minor === 0;

/** The directory at `names`. Throws Ext4ReadError NOT_FOUND. */
const findDirectory = (reader: Ext4Reader, names: readonly RawName[]): Ext4Inode => {
  let directory = reader.root();
  for (const [index, name] of names.entries()) {
    const found = findEntry(reader, directory, name);
    const path = rawNameText(`/${names.slice(0, index + 1).join("/")}`);
    if (found === null) throw new Ext4ReadError("NOT_FOUND", `there is no ${path}`);
    directory = reader.inode(found);
    if (directory.type !== "directory") throw new Ext4ReadError("NOT_FOUND", `${path} is a ${directory.type}, no directory`);
  }
  return directory;
};

const findEntry = (reader: Ext4Reader, directory: Ext4Inode, name: RawName): number | null => {
  for (const entry of reader.readDirectory(directory)) if (Buffer.from(entry.name).toString("latin1") === name) return entry.inode;
  return null;
};

/** Whether the innermost directory that an entry lies in says that marked files below it are whiteouts. Entries come depth first. */
class MarkedDirectories {
  readonly #open: { readonly path: RawName; readonly marked: boolean }[] = [];

  holds(entry: Ext4Entry): boolean {
    const parent = entry.path.slice(0, Math.max(0, entry.path.length - entry.name.length - 1));
    while (this.#open.length > 0 && this.#open.at(-1)?.path !== parent) this.#open.pop();
    return this.#open.at(-1)?.marked === true;
  }

  enter(directory: Ext4Entry, marked: boolean): void {
    this.#open.push({ path: directory.path, marked });
  }
}

function* upperPieces(reader: Ext4Reader, options: OverlayUpperOptions): Generator<Uint8Array> {
  const meter = new Meter(reader.limits);
  const writer = new LayerWriter(reader, meter);
  const prefix = options.userxattr === true ? "user.overlay." : "trusted.overlay.";
  const directories = new MarkedDirectories();
  const from = findDirectory(reader, options.upper);
  for (const entry of reader.walk({ from, meter, ...(options.exclude === undefined ? {} : { exclude: options.exclude }) })) {
    const { inode } = entry;
    if (inode.type === "socket") continue;
    if (isWhiteoutDevice(inode)) {
      yield* writer.whiteout(entry);
      continue;
    }
    const marks = readMarks(entry, reader.xattrs(inode, meter), prefix);
    const inMarked = entry.path !== "" && directories.holds(entry);
    if (marks.whiteout && inMarked && inode.type === "file" && inode.sizeBytes === 0) {
      yield* writer.whiteout(entry);
      continue;
    }
    yield* writer.entry(entry, marks.xattrs);
    if (inode.type !== "directory") continue;
    directories.enter(entry, marks.opaque === "x");
    // the overlay's root is always merged, whatever it is marked with
    if (marks.opaque === "y" && entry.path !== "") yield* writer.opaque(entry);
  }
  yield* writer.end();
}

/**
 * The upper directory of an overlay as an OCI layer tar: applied over the lower layers it gives the tree that the overlay shows.
 * 0:0 character devices become whiteouts, opaque directories get their marker, the overlay's books are dropped. What only an overlay can
 * follow (redirects, metadata without content) is refused by its path: Kiln's guests mount without them. Otherwise as `ext4ToTar`.
 */
export const overlayUpperToTar = (reader: Ext4Reader, options: OverlayUpperOptions): Generator<Uint8Array> =>
  inBatches(upperPieces(reader, options));
