import type { RawName } from "../../tar/index.ts";
import type { EntryId, EntryTable } from "./entry-table.ts";
import type { FsNode, Link } from "./node.ts";

/** A directory's child as it is kept: a file with one name is only the entry that it was made of, all else is an object. */
export type Child = FsNode | EntryId;

export const kindOf = (child: Child): FsNode["kind"] => (typeof child === "number" ? "file" : child.kind);
export const entryOf = (child: Child): EntryId => (typeof child === "number" ? child : child.entry);

/** The names of a directory. Most are of files, and there can be millions: a file becomes an object when somebody asks for it by name. */
export class Children {
  readonly #entries: EntryTable;
  readonly #links = new Map<RawName, Link | EntryId>();

  constructor(entries: EntryTable) {
    this.#entries = entries;
  }

  get size(): number {
    return this.#links.size;
  }

  /** The same object each time, which can so get a second name. */
  get(name: RawName): Link | undefined {
    const found = this.#links.get(name);
    if (typeof found !== "number") return found;
    const link = this.#linkOf(found);
    this.#links.set(name, link);
    return link;
  }

  set(name: RawName, link: Link): void {
    this.#links.set(name, link);
  }

  /** Puts a new file of the entry's layer. */
  setFile(name: RawName, entry: EntryId): void {
    this.#links.set(name, entry);
  }

  delete(name: RawName): void {
    this.#links.delete(name);
  }

  /** Links to look at, and no more: one that is to be kept comes from `get`. */
  *[Symbol.iterator](): Generator<readonly [RawName, Link]> {
    for (const [name, link] of this.#links) yield [name, typeof link === "number" ? this.#linkOf(link) : link];
  }

  forEach(look: (child: Child) => void): void {
    for (const link of this.#links.values()) look(typeof link === "number" ? link : link.node);
  }

  /** All of them in bytewise order, and none is left. */
  takeSorted(): { readonly names: RawName[]; readonly nodes: Child[] } {
    const names = [...this.#links.keys()].sort();
    const nodes: Child[] = [];
    for (const name of names) {
      const link = this.#links.get(name);
      if (link !== undefined) nodes.push(typeof link === "number" ? link : link.node);
    }
    this.#links.clear();
    return { names, nodes };
  }

  #linkOf(entry: EntryId): Link {
    return { node: { kind: "file", entry, inode: 0 }, layer: this.#entries.layer(entry) };
  }
}
