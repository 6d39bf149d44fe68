import { rawNameText } from "../../tar/index.ts";
import type { RawName } from "../../tar/index.ts";
import { Ext4Error } from "../errors.ts";
import { Children } from "../write/children.ts";
import type { EntryId, EntryTable } from "../write/entry-table.ts";
import type { DirectoryNode, FsNode, Link, SymlinkNode } from "../write/node.ts";
import type { KeptRecord } from "./record-log.ts";

/** As many symlinks as the kernel follows in one path. */
const MAX_FOLLOWED = 40;
/** One path has at most 2,048 names; only symlinks lead deeper, and no program could follow. */
const MAX_DEPTH = 2048;
/** Names that symlinks of one image may add to the paths of its entries: each may add 80,000, and millions of entries take it then hours. */
const MAX_FOLLOWED_NAMES = 100_000_000;

/**
 * The tree that layers make when they are applied from the bottom to the top, as the OCI image spec has it: whiteouts and opaque markers
 * act on lower layers only, whatever their place in the tar; an entry replaces what is there, except that a directory keeps its content.
 * Symlinks on the way to an entry are followed inside the root, as if it were a chroot.
 */
export class LayerTree {
  readonly root: DirectoryNode;
  readonly #entries: EntryTable;
  readonly #implied: EntryId;
  #impliedLeft: number;
  readonly #budget = { names: MAX_FOLLOWED_NAMES };
  #layer = 0;
  /** Where the layer has whiteouts that are nodes: overlayfs gives one node many names. */
  #deviceWhiteouts = new Set<RawName>();
  /** What the layer has cleared of lower ones: only its own entries come there, so that a million markers cost no more than one. */
  #cleared = new Set<DirectoryNode>();

  /** `implied`: the entry of directories that no layer names; they are at most `maxImplied`. */
  constructor(options: { entries: EntryTable; implied: EntryId; maxImplied: number }) {
    this.#entries = options.entries;
    this.#implied = options.implied;
    this.#impliedLeft = options.maxImplied;
    this.root = this.#impliedDirectory();
  }

  /** Throws Ext4Error LINK_INVALID, SYMLINK_LOOP, PATH_UNSAFE or TOO_MANY_ENTRIES. */
  applyLayer(layer: number, records: Iterable<KeptRecord>): void {
    this.#layer = layer;
    this.#deviceWhiteouts = new Set();
    this.#cleared = new Set();
    for (const record of records) this.#apply(record);
  }

  #impliedDirectory(): DirectoryNode {
    return { kind: "directory", entry: this.#implied, inode: 0, children: new Children(this.#entries) };
  }

  #apply(record: KeptRecord): void {
    switch (record.does) {
      case "directory":
        return this.#directory(record);
      case "file":
        return this.#file(record);
      case "symlink":
        return this.#put(record.names, { kind: "symlink", entry: record.entry, inode: 0, target: record.target });
      case "special":
        return this.#put(record.names, {
          kind: record.kind,
          entry: record.entry,
          inode: 0,
          deviceMajor: record.deviceMajor,
          deviceMinor: record.deviceMinor,
        });
      case "hardlink":
        return this.#hardlink(record);
      case "whiteout":
        if (record.isDevice) this.#deviceWhiteouts.add(record.names.join("/"));
        return this.#whiteout(record.names);
      case "opaque":
        return this.#opaque(record.names);
    }
  }

  #put(names: readonly RawName[], node: FsNode): void {
    if (this.#deviceWhiteouts.size > 0) this.#deviceWhiteouts.delete(names.join("/"));
    this.#ensureParent(names).children.set(names.at(-1) ?? "", { node, layer: this.#layer });
  }

  #file({ names, entry }: Extract<KeptRecord, { does: "file" }>): void {
    if (this.#deviceWhiteouts.size > 0) this.#deviceWhiteouts.delete(names.join("/"));
    this.#ensureParent(names).children.setFile(names.at(-1) ?? "", entry);
  }

  #directory(record: Extract<KeptRecord, { does: "directory" }>): void {
    if (record.names.length === 0) {
      this.root.entry = record.entry;
      if (record.opaque) this.#removeLower(this.root);
      return;
    }
    if (this.#deviceWhiteouts.size > 0) this.#deviceWhiteouts.delete(record.names.join("/"));
    const parent = this.#ensureParent(record.names);
    const name = record.names.at(-1) ?? "";
    const existing = parent.children.get(name)?.node;
    const node = existing?.kind === "directory" ? existing : this.#impliedDirectory();
    node.entry = record.entry;
    if (record.opaque) this.#removeLower(node);
    parent.children.set(name, { node, layer: this.#layer });
  }

  #hardlink(record: Extract<KeptRecord, { does: "hardlink" }>): void {
    if (this.#deviceWhiteouts.has(record.target.join("/"))) {
      this.#deviceWhiteouts.add(record.names.join("/"));
      return this.#whiteout(record.names);
    }
    // what stands at the link's own name is gone before its target is looked for, as in containerd and umoci: a link to itself has none
    const parent = this.#ensureParent(record.names);
    const name = record.names.at(-1) ?? "";
    parent.children.delete(name);
    const target = this.#find(record.target);
    const describe = (): string => `the hard link ${rawNameText(record.names.join("/"))} to ${rawNameText(record.target.join("/"))}`;
    if (target === null) throw new Ext4Error("LINK_INVALID", `${describe()} has no target`);
    if (target.kind === "directory") throw new Ext4Error("LINK_INVALID", `${describe()} leads to a directory`);
    // the way to the parent may be gone with what stood there
    parent.children.set(name, { node: target, layer: this.#layer });
  }

  #whiteout(names: readonly RawName[]): void {
    const parent = this.#find(names.slice(0, -1), { followLast: true });
    const name = names.at(-1) ?? "";
    if (parent?.kind !== "directory") return;
    const link = parent.children.get(name);
    if (link !== undefined && !this.#survives(link)) parent.children.delete(name);
  }

  #opaque(names: readonly RawName[]): void {
    const directory = this.#find(names, { followLast: true });
    if (directory?.kind === "directory") this.#removeLower(directory);
  }

  /** Removes what lower layers have put below `directory`; keeps what this one has, and the way to it. */
  #removeLower(directory: DirectoryNode): void {
    if (this.#cleared.has(directory)) return;
    this.#cleared.add(directory);
    for (const [name, link] of directory.children) if (!this.#survives(link)) directory.children.delete(name);
  }

  /**
   * Whether anything of this layer is left of a link, after what is below it has been cleared of lower layers. A lower directory that only
   * leads to something of this layer is then as if made for it: the same as if the marker had stood before.
   */
  #survives(link: Link): boolean {
    if (link.node.kind !== "directory") return link.layer === this.#layer;
    this.#removeLower(link.node);
    if (link.layer === this.#layer) return true;
    link.node.entry = this.#implied;
    return link.node.children.size > 0;
  }

  /** The node at a path, its parents' symlinks followed; null where there is none. */
  #find(names: readonly RawName[], options: { followLast: boolean } = { followLast: false }): FsNode | null {
    const steps = [...names].reverse();
    const walk: Walk = { stack: [], followed: 0, steps, budget: this.#budget };
    let node: FsNode = this.root;
    while (walk.steps.length > 0) {
      const next: FsNode | null = this.#step(walk, options.followLast);
      if (next === null) return null;
      node = next;
    }
    return node;
  }

  #step(walk: Walk, followLast: boolean): FsNode | null {
    const name = walk.steps.pop() ?? "";
    const directory = walk.stack.at(-1) ?? this.root;
    if (name === "..") {
      walk.stack.pop();
      return walk.stack.at(-1) ?? this.root;
    }
    const node = directory.children.get(name)?.node;
    if (node === undefined) return null;
    if (node.kind === "directory") {
      walk.stack.push(node);
    } else if (node.kind === "symlink" && (walk.steps.length > 0 || followLast)) {
      follow(walk, node);
      return walk.stack.at(-1) ?? this.root;
    } else if (walk.steps.length > 0) {
      return null;
    }
    return node;
  }

  /** The directory that holds the last of `names`; what is missing on the way is made, what is not a directory is replaced by one. */
  #ensureParent(names: readonly RawName[]): DirectoryNode {
    const walk: Walk = { stack: [], followed: 0, steps: names.slice(0, -1).reverse(), budget: this.#budget };
    while (walk.steps.length > 0) {
      const name = walk.steps.pop() ?? "";
      const directory = walk.stack.at(-1) ?? this.root;
      if (name === "..") {
        walk.stack.pop();
        continue;
      }
      const node = directory.children.get(name)?.node;
      if (node?.kind === "symlink") {
        follow(walk, node);
      } else if (node?.kind === "directory") {
        walk.stack.push(node);
      } else {
        if (this.#impliedLeft <= 0)
          throw new Ext4Error("TOO_MANY_ENTRIES", "the layers have too many entries in directories that they do not name");
        this.#impliedLeft -= 1;
        const implied = this.#impliedDirectory();
        directory.children.set(name, { node: implied, layer: this.#layer });
        walk.stack.push(implied);
      }
      if (walk.stack.length >= MAX_DEPTH) throw new Ext4Error("PATH_UNSAFE", `a path is more than ${MAX_DEPTH} directories deep`);
    }
    return walk.stack.at(-1) ?? this.root;
  }
}

/** A path that is being walked: the directories down from the root, and the names still to go, the next one last. */
interface Walk {
  stack: DirectoryNode[];
  followed: number;
  steps: RawName[];
  /** Shared by all paths of an image. */
  readonly budget: { names: number };
}

/** Puts a symlink's target in front of the names still to go. ".." at the root stays there. */
const follow = (walk: Walk, link: SymlinkNode): void => {
  walk.followed += 1;
  if (walk.followed > MAX_FOLLOWED) throw new Ext4Error("SYMLINK_LOOP", `symlinks go round in circles at ${rawNameText(link.target)}`);
  if (link.target.startsWith("/")) walk.stack = [];
  const names = link.target.split("/");
  walk.budget.names -= names.length;
  if (walk.budget.names < 0) throw new Ext4Error("SYMLINK_LOOP", `symlinks add more than ${MAX_FOLLOWED_NAMES} names to paths`);
  for (const name of names.reverse()) if (name !== "" && name !== ".") walk.steps.push(name);
};
