import { rawNameText } from "../../tar/index.ts";
import type { RawName } from "../../tar/index.ts";
import { FIRST_INODE, MAX_LINKS, ROOT_INODE } from "../disk/constants.ts";
import { Ext4Error } from "../errors.ts";
import { pathOf } from "./node.ts";
import type { DirectoryNode, FsNode } from "./node.ts";

export interface NumberedDirectory {
  readonly node: DirectoryNode;
  readonly inode: number;
  readonly parent: number;
  readonly children: readonly (readonly [RawName, FsNode])[];
}

export interface Numbering {
  readonly inodeOf: ReadonlyMap<FsNode, number>;
  /** Of those that have more than one. */
  readonly linksOf: ReadonlyMap<FsNode, number>;
  /** Every directory, parents first. */
  readonly directories: readonly NumberedDirectory[];
  readonly lastInode: number;
}

const byName = (a: readonly [RawName, FsNode], b: readonly [RawName, FsNode]): number => (a[0] < b[0] ? -1 : 1);

/** ext4 counts a directory's subdirectories only up to its limit; 1 means "many". */
const directoryLinks = (children: readonly (readonly [RawName, FsNode])[]): number => {
  const links = 2 + children.filter(([, child]) => child.kind === "directory").length;
  return links > MAX_LINKS ? 1 : links;
};

/** Numbers the tree: the names of a directory in bytewise order get neighbouring inodes. Throws Ext4Error TOO_MANY_LINKS. */
export const numberTree = (root: DirectoryNode): Numbering => {
  const inodeOf = new Map<FsNode, number>([[root, ROOT_INODE]]);
  const linksOf = new Map<FsNode, number>();
  const directories: NumberedDirectory[] = [];
  let next = FIRST_INODE;
  const waiting: { node: DirectoryNode; parent: number }[] = [{ node: root, parent: ROOT_INODE }];
  for (let current = waiting.pop(); current !== undefined; current = waiting.pop()) {
    const { node, parent } = current;
    const inode = inodeOf.get(node) ?? ROOT_INODE;
    const children = [...node.children].sort(byName);
    directories.push({ node, inode, parent, children });
    linksOf.set(node, directoryLinks(children));
    const below: { node: DirectoryNode; parent: number }[] = [];
    for (const [, child] of children) {
      if (inodeOf.has(child)) {
        const links = (linksOf.get(child) ?? 1) + 1;
        if (links > MAX_LINKS)
          throw new Ext4Error("TOO_MANY_LINKS", `${rawNameText(pathOf(child, root))} has more than ${MAX_LINKS} hard links`);
        linksOf.set(child, links);
        continue;
      }
      inodeOf.set(child, next);
      next += 1;
      if (child.kind === "directory") below.push({ node: child, parent: inode });
    }
    waiting.push(...below.reverse());
  }
  return { inodeOf, linksOf, directories, lastInode: next - 1 };
};
