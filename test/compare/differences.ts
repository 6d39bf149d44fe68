import type { Check, Entry, Tree } from "./tree.ts";

export const CHECKS: readonly Check[] = ["type", "mode", "uid", "gid", "size", "mtime", "xattrs", "links", "content", "device", "target"];

export interface Difference {
  readonly path: string;
  /** "name": only one side has the entry. */
  readonly check: Check | "name";
  readonly ours: string | null;
  readonly theirs: string | null;
}

export interface Compared {
  /** How many entries each check applied to; "name" counts all of both sides. */
  readonly counts: Readonly<Record<Check | "name", number>>;
  readonly differences: readonly Difference[];
}

/** Where the types differ, nothing else of the entry is compared. */
const compareEntries = (path: string, ours: Entry, theirs: Entry): Difference[] => {
  if (ours.type !== theirs.type) return [{ path, check: "type", ours: ours.type, theirs: theirs.type }];
  return CHECKS.filter((check) => ours[check] !== theirs[check]).map((check) => ({
    path,
    check,
    ours: ours[check],
    theirs: theirs[check],
  }));
};

export const compareTrees = (ours: Tree, theirs: Tree): Compared => {
  const counts = Object.fromEntries(["name", ...CHECKS].map((check) => [check, 0])) as Record<Check | "name", number>;
  const differences: Difference[] = [];
  for (const path of new Set([...ours.keys(), ...theirs.keys()])) {
    const [left, right] = [ours.get(path), theirs.get(path)];
    counts.name += 1;
    if (left === undefined || right === undefined) {
      differences.push({ path, check: "name", ours: left?.type ?? null, theirs: right?.type ?? null });
      continue;
    }
    for (const check of CHECKS) if (left[check] !== null || right[check] !== null) counts[check] += 1;
    differences.push(...compareEntries(path, left, right));
  }
  return { counts, differences };
};
