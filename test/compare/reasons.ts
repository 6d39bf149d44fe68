/** Where umoci itself is otherwise: each difference that has a reason is counted under it, and nothing is left out of the comparison. */
import type { Difference } from "./differences.ts";
import type { History } from "./history.ts";
import type { Tree } from "./tree.ts";

export interface Sides extends History {
  readonly ours: Tree;
  readonly theirs: Tree;
}

export interface Reason {
  readonly id: string;
  readonly text: string;
  readonly explains: (difference: Difference, sides: Sides) => boolean;
}

/** 1980-01-01: the bytes of an image depend on its layers alone. */
const FIXED_MTIME = "315532800000000000";

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf("/"));

const isDirectory = (path: string, { ours }: Sides): boolean => ours.get(path)?.type === "directory";

/** Paths that lead through symlinks are not told by their names, but a directory that no name leads to was not named. */
const isImplied = (path: string, sides: Sides): boolean => isDirectory(path, sides) && (sides.implied.has(path) || !sides.named.has(path));

const holdsImplied = (path: string, sides: Sides): boolean => {
  for (const child of [...sides.implied, ...sides.ours.keys()])
    if (child !== "." && parentOf(child) === path && (sides.implied.has(child) || isImplied(child, sides))) return true;
  return false;
};

/** As a directory that no layer names is. */
const isNew = (path: string, { ours }: Sides): boolean => {
  const { type, mode, uid, gid, mtime, xattrs } = ours.get(path) ?? {};
  return type === "directory" && mode === "755" && uid === "0" && gid === "0" && mtime === FIXED_MTIME && xattrs === "";
};

/** No layer says a time of this hour: umoci made something there. */
const UNPACKED_WITHIN_MS = 3_600_000;
const isUnpacking = (mtime: string | null): boolean => Math.abs(Date.now() - Number(mtime) / 1e6) < UNPACKED_WITHIN_MS;

/** A directory that a path through a symlink leads to is told by its other name only. */
const holdsDirectory = (path: string, { ours }: Sides): boolean =>
  [...ours].some(([child, { type }]) => type === "directory" && child !== "." && parentOf(child) === path);

const SET_GROUP_ID = 0o2000;

/** Whether a directory has what the kernel passes on to one that is made in it, which has it then too. */
const mayInherit = (path: string, { theirs }: Sides): boolean => {
  const { xattrs = "", mode = null } = theirs.get(path) ?? {};
  return xattrs.includes("system.posix_acl_default=") || (Number.parseInt(mode ?? "0", 8) & SET_GROUP_ID) !== 0;
};

const withoutEmpty = (xattrs: string | null): string =>
  (xattrs ?? "")
    .split("\n")
    .filter((line) => !line.endsWith("=0x"))
    .join("\n");

export const REASONS: readonly Reason[] = [
  {
    id: "a",
    text: "A directory that no layer names before what is in it. Kiln gives it 1980-01-01, so that the same layers make the same bytes; umoci the time of unpacking, and the root 0.",
    explains: ({ path, check, ours }, sides) => check === "mtime" && ours === FIXED_MTIME && isImplied(path, sides),
  },
  {
    id: "b",
    text: "A directory in which umoci made one that was not named yet, or not by this path: it keeps the time of that. In Kiln it has the time that its layer says.",
    explains: ({ path, check, theirs }, sides) =>
      check === "mtime" && isDirectory(path, sides) && (holdsImplied(path, sides) || (isUnpacking(theirs) && holdsDirectory(path, sides))),
  },
  {
    id: "c",
    text: "A directory that one layer both has and clears of lower layers' names, by a whiteout or an opaque marker: in umoci it has the time of clearing, in Kiln the time that its layer says.",
    explains: ({ path, check }, sides) => check === "mtime" && isDirectory(path, sides) && sides.cleared.has(path),
  },
  {
    id: "d",
    text: "A directory that no layer names before what is in it, in one with a default ACL or the set-group-id bit: the kernel of umoci's host passes that on. In Kiln it is root's, 0755, as any other.",
    explains: ({ path, check }, sides) => ["mode", "gid", "xattrs"].includes(check) && isImplied(path, sides) && mayInherit(path, sides),
  },
  {
    id: "e",
    text: "An attribute with an empty value: Go's tar reader, which umoci uses, drops it. Kiln keeps it, as GNU tar does.",
    explains: ({ check, ours, theirs }) => check === "xattrs" && withoutEmpty(ours) === theirs,
  },
  {
    id: "f",
    text: "A directory that a whiteout or an opaque marker takes away, and that is there because the same layer has something in it and does not name it: in Kiln it is new, wherever in the layer the marker stands; in umoci that of the lower layer if the marker comes later.",
    explains: ({ path, check }, sides) =>
      ["mode", "uid", "gid", "mtime", "xattrs"].includes(check) && isNew(path, sides) && sides.cleared.has(path),
  },
];
