import { rawNameText } from "../../tar/index.ts";
import type { RawName, TarEntry } from "../../tar/index.ts";
import { ACCESS_ACL, readAccessAcl } from "../disk/acl.ts";
import { MAX_SYMLINK_BYTES } from "../disk/constants.ts";
import { Ext4Error } from "../errors.ts";
import type { NodeMetadata, SpecialNode } from "../write/node.ts";
import { parsePath } from "./path.ts";

/**
 * One instruction of a layer, in the order of its tar. `names` leads from the root to what it is about; `entry` is what the tar says of the
 * node besides.
 */
export type LayerRecord<Entry = NodeMetadata> =
  | { readonly does: "directory"; readonly names: readonly RawName[]; readonly entry: Entry; readonly opaque: boolean }
  | { readonly does: "file"; readonly names: readonly RawName[]; readonly entry: Entry }
  | { readonly does: "symlink"; readonly names: readonly RawName[]; readonly entry: Entry; readonly target: RawName }
  | {
      readonly does: "special";
      readonly names: readonly RawName[];
      readonly entry: Entry;
      readonly kind: SpecialNode["kind"];
      readonly deviceMajor: number;
      readonly deviceMinor: number;
    }
  | { readonly does: "hardlink"; readonly names: readonly RawName[]; readonly target: readonly RawName[] }
  /** Takes away what lower layers have at `names`. `isDevice`: it is overlayfs's, a node of its own that can have hard links. */
  | { readonly does: "whiteout"; readonly names: readonly RawName[]; readonly isDevice: boolean }
  /** Takes away what lower layers have below `names`. */
  | { readonly does: "opaque"; readonly names: readonly RawName[] };

/** Linux gives every symlink this mode, whatever an archive says. */
const SYMLINK_MODE = 0o777;
const WHITEOUT_PREFIX = ".wh.";
const OPAQUE_NAME = ".wh..wh..opq";
/** aufs keeps its own files under this prefix (hard links in .wh..wh.plnk); they mean nothing in an image. */
const AUFS_PREFIX = ".wh..wh.";
const OVERLAY_PREFIX = "trusted.overlay.";
const OVERLAY_OPAQUE = "trusted.overlay.opaque";
/** Marks an empty file as a whiteout, where an overlay lies on an overlay. */
const OVERLAY_WHITEOUT = "trusted.overlay.whiteout";
/** Markers whose content lies elsewhere: without it the entry is not what it seems. */
const OVERLAY_REFUSED: ReadonlySet<string> = new Set(["trusted.overlay.redirect", "trusted.overlay.metacopy"]);

/** The overlay driver's own attributes never reach an image: markers are honoured, bookkeeping dropped, the rest refused. */
const withoutOverlay = (entry: TarEntry): ReadonlyMap<RawName, Uint8Array> => {
  if (entry.xattrs.size === 0) return entry.xattrs;
  const kept = new Map<RawName, Uint8Array>();
  for (const [name, value] of entry.xattrs) {
    if (OVERLAY_REFUSED.has(name))
      throw new Ext4Error("OVERLAY_MARKER", `${rawNameText(entry.path)} has the attribute ${name}, which only an overlay can honour`);
    if (!name.startsWith(OVERLAY_PREFIX)) kept.set(name, value);
  }
  return kept;
};

/** "y". Another value there is, "x", only says that marked whiteouts are below. */
const isOverlayOpaque = (entry: TarEntry): boolean => {
  const value = entry.xattrs.get(OVERLAY_OPAQUE);
  return value !== undefined && value.length === 1 && value[0] === 0x79;
};

const parseWhiteout = (names: readonly RawName[]): LayerRecord | "skip" | null => {
  const last = names.at(-1) ?? "";
  if (names.slice(0, -1).some((name) => name.startsWith(AUFS_PREFIX))) return "skip";
  if (!last.startsWith(WHITEOUT_PREFIX)) return null;
  const parent = names.slice(0, -1);
  if (last === OPAQUE_NAME) return { does: "opaque", names: parent };
  if (last.startsWith(AUFS_PREFIX)) return "skip";
  const hidden = last.slice(WHITEOUT_PREFIX.length);
  if (hidden === "" || hidden === "." || hidden === "..")
    throw new Ext4Error("PATH_UNSAFE", `${rawNameText(names.join("/"))} is no whiteout of a name`);
  return { does: "whiteout", names: [...parent, hidden], isDevice: false };
};

const checkTarget = (entry: TarEntry): RawName => {
  if (entry.linkPath.length === 0 || entry.linkPath.length > MAX_SYMLINK_BYTES) {
    throw new Ext4Error("SYMLINK_INVALID", `the symlink ${rawNameText(entry.path)} has a target of ${entry.linkPath.length} bytes`);
  }
  return entry.linkPath;
};

const parseSpecial = (
  entry: TarEntry,
  kind: "character" | "block" | "fifo",
  common: { names: readonly RawName[]; entry: NodeMetadata },
): LayerRecord => {
  const { deviceMajor, deviceMinor } = entry;
  if (kind === "character" && deviceMajor === 0 && deviceMinor === 0) return { does: "whiteout", names: common.names, isDevice: true };
  return { does: "special", ...common, kind, deviceMajor, deviceMinor };
};

/** Mode and attributes as the kernel has them once all are set: an access ACL decides the permission bits, and one that says no more is not kept. */
const parseMetadata = (entry: TarEntry): NodeMetadata => {
  const { uid, gid, modifiedAt } = entry;
  const xattrs = withoutOverlay(entry);
  const acl = entry.type === "symlink" ? undefined : xattrs.get(ACCESS_ACL);
  if (acl === undefined) return { mode: entry.mode, uid, gid, modifiedAt, xattrs };
  const { permissions, isMinimal } = readAccessAcl(acl, entry.mode);
  const kept = isMinimal ? new Map([...xattrs].filter(([name]) => name !== ACCESS_ACL)) : xattrs;
  return { mode: (entry.mode & ~0o777) | permissions, uid, gid, modifiedAt, xattrs: kept };
};

/**
 * What an entry of a layer's tar does to the tree. null: nothing (bookkeeping of aufs).
 * A 0:0 character device and an empty file with the marker are overlayfs's whiteouts and are read as such. Throws Ext4Error.
 */
export const parseRecord = (entry: TarEntry): LayerRecord | null => {
  const names = parsePath(entry.path);
  const whiteout = parseWhiteout(names);
  if (whiteout === "skip") return null;
  if (whiteout !== null) return whiteout;
  if (names.length === 0 && entry.type !== "directory")
    throw new Ext4Error("PATH_UNSAFE", "an entry that is not a directory takes the place of the root");
  if (entry.type === "hardlink") return { does: "hardlink", names, target: parsePath(entry.linkPath) };
  const metadata = parseMetadata(entry);
  switch (entry.type) {
    case "directory":
      return { does: "directory", names, entry: metadata, opaque: isOverlayOpaque(entry) };
    case "file":
      if (entry.sizeBytes === 0 && entry.xattrs.has(OVERLAY_WHITEOUT)) return { does: "whiteout", names, isDevice: true };
      return { does: "file", names, entry: metadata };
    case "symlink":
      return { does: "symlink", names, entry: { ...metadata, mode: SYMLINK_MODE }, target: checkTarget(entry) };
    default:
      return parseSpecial(entry, entry.type, { names, entry: metadata });
  }
};

/** What one name of a path, and one entry, cost in memory besides their bytes. */
const NAME_COST_BYTES = 40;
const RECORD_COST_BYTES = 256;

/** Roughly what keeping an entry's record costs in memory. */
export const recordCostBytes = (entry: TarEntry, names: number): number => {
  let bytes = RECORD_COST_BYTES + names * NAME_COST_BYTES + entry.path.length + entry.linkPath.length;
  for (const [name, value] of entry.xattrs) bytes += name.length + value.length + RECORD_COST_BYTES;
  return bytes;
};
