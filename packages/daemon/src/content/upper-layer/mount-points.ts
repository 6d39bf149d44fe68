import type { Ext4Inode, Ext4Reader } from "@kiln/formats/ext4";
import { entriesOf, findBelow, splitPath } from "./lookup.ts";

/** On what the agent mounts its files (guest/agent/src/identity.c). */
const IDENTITY = ["etc/hosts", "etc/resolv.conf", "etc/hostname", "etc/machine-id"];

interface Tree {
  readonly reader: Ext4Reader;
  readonly root: Ext4Inode;
}

/**
 * What the agent has made in the upper directory, which is next to nothing: mount points that an image lacks are in a
 * layer of their own (guest/agent/src/mounts.c). Only where the image's /etc/resolv.conf, say, is a link that leads
 * nowhere, its target had to be made, with the directories on the way: an empty file that is always mounted over.
 */
export const mountPointsOf = (upper: Tree, base: Tree): ReadonlySet<string> => {
  const own = new Set<string>();
  for (const path of IDENTITY) {
    const target = linkTarget(upper, path) ?? linkTarget(base, path);
    if (target === null || !isUntouched(findIn(upper, target)) || findIn(base, target) !== null) continue;
    own.add(target);
    addEmptied({ upper, base, own }, target);
  }
  return own;
};

const findIn = ({ reader, root }: Tree, path: string): Ext4Inode | null => findBelow(reader, root, path);

/** A file as the agent makes it, which no program can have written to. */
const isUntouched = (file: Ext4Inode | null): boolean =>
  file !== null && file.type === "file" && file.sizeBytes === 0 && file.uid === 0 && file.gid === 0 && file.links === 1;

/** The directories on the way to what was made, as far as there is nothing else in them and the image has none. */
const addEmptied = ({ upper, base, own }: { upper: Tree; base: Tree; own: Set<string> }, target: string): void => {
  const names = splitPath(target).slice(0, -1);
  for (; names.length > 0; names.pop()) {
    const path = names.join("/");
    const directory = findIn(upper, path);
    if (directory === null || directory.type !== "directory" || findIn(base, path) !== null) return;
    if (!entriesOf(upper.reader, directory).every(({ name }) => own.has(`${path}/${name}`))) return;
    own.add(path);
  }
};

/** Where a link leads, from the root, by its words alone; null for what is no link. */
const linkTarget = (tree: Tree, path: string): string | null => {
  const link = findIn(tree, path);
  if (link === null || link.type !== "symlink") return null;
  const text = Buffer.from(tree.reader.readLink(link)).toString("latin1");
  const names = text.startsWith("/") ? [] : splitPath(path).slice(0, -1);
  for (const name of splitPath(text)) {
    if (name === "..") names.pop();
    else if (name !== ".") names.push(name);
  }
  return names.join("/");
};
