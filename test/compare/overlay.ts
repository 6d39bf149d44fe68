/** A layer as overlayfs keeps it on a disk: what a tar of an overlay's upper directory would have. It says the same as the layer itself. */
import type { LayerEntry } from "./stack.ts";

const WHITEOUT = ".wh.";
const OPAQUE = "/.wh..wh..opq";

/** What an overlay notes for itself; it means nothing in an image. */
const NOTES = { "trusted.overlay.origin": "\0\xfb!\0\x01", "trusted.overlay.impure": "y", "trusted.overlay.uuid": "0123456789abcdef" };

const isMarker = ({ path }: LayerEntry): boolean => path.slice(path.lastIndexOf("/") + 1).startsWith(WHITEOUT);

const hiddenBy = (path: string): string => {
  const name = path.lastIndexOf("/") + 1;
  return path.slice(0, name) + path.slice(name + WHITEOUT.length);
};

/** Whether the directory of an opaque marker stands before it, so that the marker can be an attribute of it. */
const isAttribute = (marker: LayerEntry, before: readonly LayerEntry[]): boolean =>
  before.some(({ type, path }) => type === "directory" && path === marker.path.slice(0, -OPAQUE.length));

const whiteouts = (entries: readonly LayerEntry[]): LayerEntry[] => {
  let first: string | null = null;
  return entries.map((entry): LayerEntry => {
    if (!isMarker(entry) || entry.path.endsWith(OPAQUE)) return entry;
    const path = hiddenBy(entry.path);
    if (first !== null) return { ...entry, type: "hardlink", path, link: first };
    if (entries.every((other) => other.path !== path)) first = path;
    return { ...entry, type: "character", path, device: [0, 0] };
  });
};

const opaqueDirectories = (entries: readonly LayerEntry[]): LayerEntry[] => {
  const kept = entries.filter((entry, index) => !entry.path.endsWith(OPAQUE) || !isAttribute(entry, entries.slice(0, index)));
  const opaque = new Set(entries.filter((entry) => !kept.includes(entry)).map(({ path }) => path.slice(0, -OPAQUE.length)));
  return kept.map((entry) => {
    if (entry.type !== "directory") return entry;
    const marked: Record<string, string> = opaque.has(entry.path) ? { "trusted.overlay.opaque": "y" } : {};
    return { ...entry, xattrs: { ...entry.xattrs, ...NOTES, ...marked } };
  });
};

/** `hasXattrs`: whether the archive can say attributes. */
export const asOverlay = (entries: readonly LayerEntry[], { hasXattrs }: { readonly hasXattrs: boolean }): LayerEntry[] =>
  whiteouts(hasXattrs ? opaqueDirectories(entries) : entries);
