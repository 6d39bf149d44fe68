/** The cases that a generated stack of layers can hold, told from what is written and without following symlinks. */
import { spell, type Layer, type LayerEntry, type Stack } from "./stack.ts";

/** One layer of a stack, and what the layers below it have. */
interface Look {
  readonly layer: Layer;
  readonly entries: readonly LayerEntry[];
  readonly below: readonly LayerEntry[];
}

const OPAQUE = "/.wh..wh..opq";
const nameOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1);
const isMarker = ({ path }: LayerEntry): boolean => nameOf(path).startsWith(".wh.");
const isOpaque = ({ path }: LayerEntry): boolean => path.endsWith(OPAQUE);
const isWhiteout = (entry: LayerEntry): boolean => isMarker(entry) && !isOpaque(entry);

/** What a marker hides, or clears. */
const subject = ({ path }: LayerEntry): string =>
  path.endsWith(OPAQUE) ? path.slice(0, -OPAQUE.length) : path.slice(0, path.length - nameOf(path).length) + nameOf(path).slice(4);

const isAtOrBelow = (path: string, top: string): boolean => path === top || path.startsWith(`${top}/`);
const parentOf = (path: string): string => path.slice(0, Math.max(path.lastIndexOf("/"), 0));

const some =
  (test: (entry: LayerEntry, look: Look, index: number) => boolean) =>
  (look: Look): boolean =>
    look.entries.some((entry, index) => test(entry, look, index));

/** A marker with something of its own layer at the place, before it or after it. */
const beside = (marks: (entry: LayerEntry) => boolean, side: "before" | "after") =>
  some((entry, { entries }, index) => {
    if (!marks(entry)) return false;
    const others = side === "before" ? entries.slice(index + 1) : entries.slice(0, index);
    return others.some((other) => !isMarker(other) && isAtOrBelow(other.path, subject(entry)));
  });

const isNode = (entry: LayerEntry): boolean => !isMarker(entry);
const replaces = (from: "file" | "directory", to: "file" | "directory", where: "entries" | "below") =>
  some((entry, look, index) => {
    const earlier = where === "below" ? look.below : look.entries.slice(0, index);
    return isNode(entry) && entry.type === to && earlier.some((other) => isNode(other) && other.type === from && other.path === entry.path);
  });

const sparseBy = (...writers: readonly Layer["writer"][]) =>
  some(({ type, sparse }, { layer }) => type === "file" && sparse !== "none" && writers.includes(layer.writer));
const hasXattr = (test: (name: string, value: string) => boolean) =>
  some(({ xattrs }, { layer }) => layer.writer.includes("pax") && Object.entries(xattrs).some(([name, value]) => test(name, value)));
const hasTime = (test: (seconds: number) => boolean) => some((entry) => isNode(entry) && test(Number(entry.mtime)));
const hasTarget = (test: (length: number) => boolean) => some(({ type, link }) => type === "symlink" && test(link.length));
const asOverlay = (look: Look): boolean => look.layer.overlay && look.layer.writer.startsWith("python");

export const KINDS: Readonly<Record<string, (look: Look) => boolean>> = {
  "sparse file, old GNU header": sparseBy("tar gnu"),
  "sparse file, PAX 0.0": sparseBy("tar pax 0.0"),
  "sparse file, PAX 0.1": sparseBy("tar pax 0.1"),
  "sparse file, PAX 1.0": sparseBy("tar pax"),
  "time before 1970": hasTime((seconds) => seconds < 0),
  "time after 2038": hasTime((seconds) => seconds >= 2 ** 31),
  "owner over 16 bits": some((entry) => isNode(entry) && Math.max(entry.uid, entry.gid) > 0xffff),
  "owner over 31 bits": some((entry) => isNode(entry) && Math.max(entry.uid, entry.gid) > 0x7fff_ffff),
  "symlink of 1 to 59 bytes": hasTarget((length) => length < 60),
  "symlink of 60 to 4,094 bytes": hasTarget((length) => length >= 60 && length < 4095),
  "symlink of 4,095 bytes": hasTarget((length) => length === 4095),
  "attribute that fills the room in the inode": hasXattr((name) => name === "user.i"),
  "attribute of more than the inode holds": hasXattr((_, value) => value.length > 68),
  "attribute that fills a block": hasXattr((name) => name === "user.b"),
  capability: hasXattr((name) => name === "security.capability"),
  ACL: hasXattr((name) => name.startsWith("system.posix_acl_")),
  "ACL that is not what the mode says": some(
    ({ xattrs, mode }, { layer }) => layer.writer === "python pax" && "system.posix_acl_access" in xattrs && mode !== 0o770,
  ),
  "path spelled with ./, / or //": some((entry) => spell(entry) !== entry.path),
  "parent that no entry names": some(
    ({ path }, { entries, below }) => path.includes("/") && [...entries, ...below].every((other) => other.path !== parentOf(path)),
  ),
  "parent after what is in it": some(
    ({ path }, { entries }, index) =>
      path.includes("/") &&
      entries.slice(0, index).every((other) => other.path !== parentOf(path)) &&
      entries.slice(index).some((other) => other.type === "directory" && other.path === parentOf(path)),
  ),
  "path twice in a layer": some((entry, { entries }, index) => entries.slice(0, index).some(({ path }) => path === entry.path)),
  "directory replaced by a file, in a layer": replaces("directory", "file", "entries"),
  "directory replaced by a file, across layers": replaces("directory", "file", "below"),
  "file replaced by a directory, in a layer": replaces("file", "directory", "entries"),
  "file replaced by a directory, across layers": replaces("file", "directory", "below"),
  "whiteout before its sibling": beside(isWhiteout, "before"),
  "whiteout after its sibling": beside(isWhiteout, "after"),
  "opaque marker before what is in the directory": beside(isOpaque, "before"),
  "opaque marker after what is in the directory": beside(isOpaque, "after"),
  "whiteout of a name that is not there": some(
    (entry, { below }) => isWhiteout(entry) && below.every(({ path }) => !isAtOrBelow(path, subject(entry))),
  ),
  "whiteout of a name with odd bytes": some((entry) => isWhiteout(entry) && /[^ -~]|[\\*]|^\.\./.test(nameOf(subject(entry)))),
  "whiteout of what a hard link leads to": some(
    (entry, { below }) => isWhiteout(entry) && below.some(({ type, link }) => type === "hardlink" && link === subject(entry)),
  ),
  "hard link into a lower layer": some(
    ({ type, link }, { entries, below }, index) =>
      type === "hardlink" && entries.slice(0, index).every(({ path }) => path !== link) && below.some(({ path }) => path === link),
  ),
  "whiteout as a 0:0 device": (look) => asOverlay(look) && look.entries.some(isWhiteout),
  "whiteouts as hard links to a 0:0 device": (look) => asOverlay(look) && look.entries.filter(isWhiteout).length > 1,
  "attributes of an overlay": (look) =>
    asOverlay(look) && look.layer.writer === "python pax" && look.entries.some(({ type }) => type === "directory"),
};

export const kindsOf = (stack: Stack): string[] => {
  const looks = stack.map((layer, index) => ({
    layer,
    entries: layer.entries,
    below: stack.slice(0, index).flatMap(({ entries }) => entries),
  }));
  return Object.keys(KINDS).filter((kind) => looks.some((look) => KINDS[kind]?.(look)));
};
