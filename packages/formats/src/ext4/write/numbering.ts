import { rawNameText } from "../../tar/index.ts";
import type { RawName } from "../../tar/index.ts";
import { FIRST_INODE, MAX_LINKS, ROOT_INODE } from "../disk/constants.ts";
import { Ext4Error } from "../errors.ts";
import { kindOf } from "./children.ts";
import type { Child } from "./children.ts";
import type { DirectoryNode } from "./node.ts";

export interface NumberedDirectory {
  readonly inode: number;
  readonly parent: number;
  /** In bytewise order. */
  readonly names: readonly RawName[];
  /** What each of the names leads to. */
  readonly inodes: Uint32Array;
}

export interface Numbering {
  /** What has an inode, in the order of their numbers. */
  readonly nodes: readonly Child[];
  /** Of those that have more than one. */
  readonly linksOf: ReadonlyMap<number, number>;
  /** Every directory, parents first. */
  readonly directories: readonly NumberedDirectory[];
  readonly lastInode: number;
}

/** ext4 counts a directory's subdirectories only up to its limit; 1 means "many". */
const directoryLinks = (children: readonly Child[]): number => {
  let links = 2;
  for (const child of children) if (kindOf(child) === "directory") links += 1;
  return links > MAX_LINKS ? 1 : links;
};

/**
 * Numbers the tree: the names of a directory in bytewise order get neighbouring inodes. The directories' own children are empty afterwards.
 * Throws Ext4Error TOO_MANY_LINKS.
 */
export const numberTree = (root: DirectoryNode): Numbering => {
  root.inode = ROOT_INODE;
  const all: Child[] = [root];
  const linksOf = new Map<number, number>();
  const directories: NumberedDirectory[] = [];
  let next = FIRST_INODE;
  const waiting: { node: DirectoryNode; parent: number }[] = [{ node: root, parent: ROOT_INODE }];
  for (let current = waiting.pop(); current !== undefined; current = waiting.pop()) {
    const { node, parent } = current;
    const { names, nodes } = node.children.takeSorted();
    const inodes = new Uint32Array(nodes.length);
    directories.push({ inode: node.inode, parent, names, inodes });
    linksOf.set(node.inode, directoryLinks(nodes));
    const below: { node: DirectoryNode; parent: number }[] = [];
    for (const [index, child] of nodes.entries()) {
      if (typeof child !== "number" && child.inode > 0) {
        inodes[index] = child.inode;
        linksOf.set(child.inode, oneMore(linksOf.get(child.inode) ?? 1, child.inode, directories));
        continue;
      }
      inodes[index] = next;
      all.push(child);
      if (typeof child !== "number") child.inode = next;
      if (typeof child !== "number" && child.kind === "directory") below.push({ node: child, parent: node.inode });
      next += 1;
    }
    for (let last = below.pop(); last !== undefined; last = below.pop()) waiting.push(last);
  }
  return { nodes: all, linksOf, directories, lastInode: next - 1 };
};

const oneMore = (links: number, inode: number, directories: readonly NumberedDirectory[]): number => {
  if (links < MAX_LINKS) return links + 1;
  throw new Ext4Error("TOO_MANY_LINKS", `${rawNameText(pathOf(inode, directories))} has more than ${MAX_LINKS} hard links`);
};

/** The inode of the node with this index among all. */
export const inodeAt = (index: number): number => (index === 0 ? ROOT_INODE : FIRST_INODE + index - 1);

export const nodeAt = (numbering: Numbering, inode: number): Child | undefined =>
  numbering.nodes[inode === ROOT_INODE ? 0 : inode - FIRST_INODE + 1];

/** A path to an inode, for messages. */
export const pathOf = (inode: number, directories: readonly NumberedDirectory[]): RawName => {
  const names: RawName[] = [];
  for (let at = inode; at !== ROOT_INODE;) {
    const directory = directories.find(({ inodes }) => inodes.includes(at));
    if (directory === undefined) break;
    names.unshift(directory.names[directory.inodes.indexOf(at)] ?? "");
    at = directory.inode;
  }
  return `/${names.join("/")}`;
};
