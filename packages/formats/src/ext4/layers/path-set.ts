import type { RawName } from "../../tar/index.ts";

/** Hash of the path of no names, the root. */
export const ROOT_HASH = 0x811c_9dc5;

const SLASH = 0x2f;
const LOW_PRIME = 0x0100_0193;
const HIGH_PRIME = 0x85eb_ca6b;
/** Hashes are whole numbers: 21 bits over 32. */
const HIGH_BITS = 21;
const FIRST_SLOTS = 1024;

/** Continues the hash of a path by one name. Two multiplicative hashes side by side, 53 bits of them. */
export const hashStep = (hash: number, name: RawName): number => {
  let low = hash | 0;
  let high = Math.floor(hash / 2 ** 32) ^ SLASH;
  low = Math.imul(low ^ SLASH, LOW_PRIME);
  for (let index = 0; index < name.length; index += 1) {
    const byte = name.charCodeAt(index);
    low = Math.imul(low ^ byte, LOW_PRIME);
    high = Math.imul(high ^ byte ^ (high >>> 15), HIGH_PRIME);
  }
  return (high >>> (32 - HIGH_BITS)) * 2 ** 32 + (low >>> 0);
};

export const hashPath = (names: readonly RawName[]): number => names.reduce(hashStep, ROOT_HASH);

/** A hash is looked for in so many places: more than chance ever needs in a table that is half empty, and hostile names cost no more time. */
const MAX_PROBES = 128;

/**
 * A set of paths by their hashes, in 16 to 32 bytes each. It can be wrong, if ever so rarely: two paths may be taken for one, and one of
 * hundreds that were chosen to have the same place is not kept. The same paths in the same order give the same answers.
 */
export class PathSet {
  /** 0: nothing there. */
  #slots = new Float64Array(FIRST_SLOTS);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  has(hash: number): boolean {
    return this.#slots[this.#find(hash)] === keyOf(hash);
  }

  add(hash: number): void {
    const slot = this.#find(hash);
    if (this.#slots[slot] !== 0) return;
    this.#slots[slot] = keyOf(hash);
    this.#size += 1;
    if (this.#size * 2 > this.#slots.length) this.#grow();
  }

  addAll(other: PathSet): void {
    for (const key of other.#slots) if (key !== 0) this.add(key);
  }

  /** Where the hash is, or would be; else a place that another has. */
  #find(hash: number): number {
    const key = keyOf(hash);
    const mask = this.#slots.length - 1;
    let slot = (Math.imul((key | 0) ^ Math.floor(key / 2 ** 32), SPREAD) >>> 7) & mask;
    for (let probe = 0; probe < MAX_PROBES && this.#slots[slot] !== 0 && this.#slots[slot] !== key; probe += 1) slot = (slot + 1) & mask;
    return slot;
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Float64Array(old.length * 2);
    this.#size = 0;
    for (const key of old) if (key !== 0) this.add(key);
  }
}

const SPREAD = 0x9e37_79b1;
const keyOf = (hash: number): number => (hash === 0 ? 1 : hash);
