import { rawNameText } from "../../tar/index.ts";
import { Ext4ReadError } from "./errors.ts";
import type { Ext4Inode } from "./inode.ts";
import { LayerWriter, inBatches } from "./layer-writer.ts";
import type { Xattrs } from "./layer-writer.ts";
import { Meter } from "./limits.ts";
import type { Ext4Reader } from "./reader.ts";
import type { Ext4Entry, WalkOptions } from "./walk.ts";

const NO_XATTRS: Xattrs = new Map();
const LOST_AND_FOUND = "lost+found";
const OVERLAY_PREFIX = "trusted.overlay.";

const isEmpty = (reader: Ext4Reader, directory: Ext4Inode): boolean => reader.readDirectory(directory).next().done === true;

/** Readers of layers take an overlay's own attributes for orders. */
const plainXattrs = (reader: Ext4Reader, { path, inode }: Ext4Entry, meter: Meter): Xattrs => {
  const all = reader.xattrs(inode, meter);
  if (all.length === 0) return NO_XATTRS;
  const xattrs = new Map<string, Uint8Array>();
  for (const { name, value } of all) {
    if (name.startsWith(OVERLAY_PREFIX))
      throw new Ext4ReadError("NOT_REPRESENTABLE", `${rawNameText(`/${path}`)} has the attribute ${name}, which is an order in a layer`);
    xattrs.set(name, value);
  }
  return xattrs;
};

function* treePieces(reader: Ext4Reader, options: WalkOptions): Generator<Uint8Array> {
  const meter = new Meter(reader.limits);
  const writer = new LayerWriter(reader, meter);
  for (const entry of reader.walk({ ...options, meter })) {
    if (entry.inode.type === "socket") continue;
    if (entry.path === LOST_AND_FOUND && entry.inode.type === "directory" && isEmpty(reader, entry.inode)) continue;
    yield* writer.entry(entry, plainXattrs(reader, entry, meter));
  }
  yield* writer.end();
}

/**
 * A whole file system as an OCI layer tar. The same tree gives the same bytes, wherever its blocks lie: entries in the order of
 * their names' bytes, of hard links the first as the file, holes of 64 KiB and more as a sparse file (GNU PAX 1.0), attributes as
 * SCHILY.xattr, times to the nanosecond. Sockets are left out, and lost+found where it is empty. Throws Ext4ReadError, also
 * NOT_REPRESENTABLE for what would mean something else in a layer, and TarError LIMIT.
 */
export const ext4ToTar = (reader: Ext4Reader, options: Pick<WalkOptions, "exclude"> = {}): Generator<Uint8Array> =>
  inBatches(treePieces(reader, options));
