import { rawNameText } from "../../tar/index.ts";
import type { RawName } from "../../tar/index.ts";
import { FIRST_INODE, MAX_LINKS, ROOT_INODE } from "../disk/constants.ts";
import { Ext4Error } from "../errors.ts";
import type { DirectoryNode, FsNode } from "./node.ts";

export interface NumberedDirectory {
  readonly inode: number;
  readonly parent: number;
  /** In bytewise order. */
  readonly names: readonly RawName[];
  /** What each of the names leads to. */
  readonly nodes: readonly FsNode[];
}

export interface Numbering {
  /** What has an inode, in the order of their numbers. */
  readonly nodes: readonly FsNode[];
  /** Of those that have more than one. */
  readonly linksOf: ReadonlyMap<number, number>;
  /** Every directory, parents first. */
  readonly directories: readonly NumberedDirectory[];
  readonly lastInode: number;
}

/** ext4 counts a directory's subdirectories only up to its limit; 1 means "many". */
const directoryLinks = (children: readonly FsNode[]): number => {
  let links = 2;
  for (const { kind } of children) if (kind === "directory") links += 1;
  return links > MAX_LINKS ? 1 : links;
};

/** Takes the children out of a node: from here on they are in the list of directories only, which takes half as much memory. */
const takeChildren = (node: DirectoryNode): { names: RawName[]; nodes: FsNode[] } => {
  const names = [...node.children.keys()].sort();
  const nodes: FsNode[] = [];
  for (const name of names) {
    const link = node.children.get(name);
    if (link !== undefined) nodes.push(link.node);
  }
  node.children.clear();
  return { names, nodes };
};

/**
 * Numbers the tree: the names of a directory in bytewise order get neighbouring inodes. The directories' own children are empty afterwards.
 * Throws Ext4Error TOO_MANY_LINKS.
 */
export const numberTree = (root: DirectoryNode): Numbering => {
  root.inode = ROOT_INODE;
  const all: FsNode[] = [root];
  const linksOf = new Map<number, number>();
  const directories: NumberedDirectory[] = [];
  let next = FIRST_INODE;
  const waiting: { node: DirectoryNode; parent: number }[] = [{ node: root, parent: ROOT_INODE }];
  for (let current = waiting.pop(); current !== undefined; current = waiting.pop()) {
    const { node, parent } = current;
    const { inode } = node;
    const { names, nodes } = takeChildren(node);
    directories.push({ inode, parent, names, nodes });
    linksOf.set(inode, directoryLinks(nodes));
    const below: { node: DirectoryNode; parent: number }[] = [];
    for (const child of nodes) {
      if (child.inode > 0) {
        const links = (linksOf.get(child.inode) ?? 1) + 1;
        if (links > MAX_LINKS)
          throw new Ext4Error("TOO_MANY_LINKS", `${rawNameText(pathOf(child.inode, directories))} has more than ${MAX_LINKS} hard links`);
        linksOf.set(child.inode, links);
        continue;
      }
      child.inode = next;
      next += 1;
      all.push(child);
      if (child.kind === "directory") below.push({ node: child, parent: inode });
    }
    for (let last = below.pop(); last !== undefined; last = below.pop()) waiting.push(last);
  }
  return { nodes: all, linksOf, directories, lastInode: next - 1 };
};

/** A path to an inode, for messages. */
export const pathOf = (inode: number, directories: readonly NumberedDirectory[]): RawName => {
  const names: RawName[] = [];
  for (let at = inode; at !== ROOT_INODE;) {
    const directory = directories.find(({ nodes }) => nodes.some((node) => node.inode === at));
    if (directory === undefined) break;
    const index = directory.nodes.findIndex((node) => node.inode === at);
    names.unshift(directory.names[index] ?? "");
    at = directory.inode;
  }
  return `/${names.join("/")}`;
};
