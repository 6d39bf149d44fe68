import { KernelFormatError } from "./errors.ts";

/**
 * The index files of kmod (libkmod-index.h in kmod's sources): a radix tree from ASCII keys to values with a
 * priority, children before their parents, numbers big-endian.
 */

const MAGIC = 0xb007_f457;
const VERSION = 0x0002_0001;
const HAS_PREFIX = 0x8000_0000;
const HAS_VALUES = 0x4000_0000;
const HAS_CHILDREN = 0x2000_0000;
/** Offsets share their word with the flags. */
const MAX_BYTES = 0x0fff_ffff;
const HEADER_BYTES = 12;

export interface TrieEntry {
  readonly key: string;
  readonly value: string;
  /** Of several values of one key the lowest comes first. */
  readonly priority: number;
}

/** Throws KernelFormatError INVALID for keys that the format has no room for. */
export const writeTrie = (entries: readonly TrieEntry[]): Uint8Array => {
  for (const { key } of entries) {
    // oxlint-disable-next-line no-control-regex -- the format's alphabet is what C calls a string of ASCII
    if (!/^[\u0001-\u007f]+$/.test(key)) throw new KernelFormatError("INVALID", `${JSON.stringify(key)} is no key of a module index`);
  }
  const writer = new TrieWriter();
  return writer.finish(writer.node(entries, { at: 0, prefix: "" }));
};

class TrieWriter {
  readonly #parts: Uint8Array[] = [];
  #length = HEADER_BYTES;

  /** Writes the node of entries that agree up to `place`, which ends with the node's own prefix. Returns its offset with flags. */
  node(entries: readonly TrieEntry[], place: { readonly at: number; readonly prefix: string }): number {
    const end = place.at + place.prefix.length;
    const here = entries.filter((entry) => entry.key.length === end).sort((a, b) => a.priority - b.priority);
    const children = Map.groupBy(
      entries.filter((entry) => entry.key.length > end),
      (entry) => entry.key.charCodeAt(end),
    );
    const offsets = new Map([...children].sort(([a], [b]) => a - b).map(([letter, below]) => [letter, this.#child(below, end + 1)]));
    const offset = this.#length;
    let flags = 0;
    if (place.prefix !== "") {
      flags |= HAS_PREFIX;
      this.#text(place.prefix);
    }
    if (offsets.size > 0) {
      flags |= HAS_CHILDREN;
      this.#children(offsets);
    }
    if (here.length > 0) {
      flags |= HAS_VALUES;
      this.#number(here.length);
      for (const { priority, value } of here) {
        this.#number(priority);
        this.#text(value);
      }
    }
    return (offset | flags) >>> 0;
  }

  finish(root: number): Uint8Array {
    if (this.#length > MAX_BYTES) throw new KernelFormatError("LIMIT", "a module index is larger than its format allows");
    const bytes = new Uint8Array(this.#length);
    const view = new DataView(bytes.buffer);
    for (const [index, value] of [MAGIC, VERSION, root].entries()) view.setUint32(index * 4, value);
    let at = HEADER_BYTES;
    for (const part of this.#parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }

  #child(entries: readonly TrieEntry[], at: number): number {
    const [first = ""] = entries.map((entry) => entry.key);
    const shortest = Math.min(...entries.map((entry) => entry.key.length));
    let end = at;
    while (end < shortest && entries.every((entry) => entry.key[end] === first[end])) end += 1;
    return this.node(entries, { at, prefix: first.slice(at, end) });
  }

  #children(offsets: ReadonlyMap<number, number>): void {
    const letters = [...offsets.keys()];
    const [first, last] = [Math.min(...letters), Math.max(...letters)];
    this.#bytes(Uint8Array.of(first, last));
    for (let letter = first; letter <= last; letter += 1) this.#number(offsets.get(letter) ?? 0);
  }

  #number(value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value);
    this.#bytes(bytes);
  }

  #text(text: string): void {
    this.#bytes(new TextEncoder().encode(`${text}\0`));
  }

  #bytes(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#length += bytes.length;
  }
}
