import type { RawName } from "../../tar/index.ts";
import { hashPath, hashStep, PathSet, ROOT_HASH } from "./path-set.ts";
import type { LayerRecord } from "./record.ts";

/**
 * What the layers read so far hide from those below. It goes by the paths as they are written, so it can be wrong where symlinks or hard
 * links lead elsewhere: it only saves work, and content that turns out to be needed is read again.
 */
export class HiddenPaths {
  /** Paths that lower files cannot be seen at. */
  readonly #at = new PathSet();
  /** Paths that nothing lower can be seen below. */
  readonly #below = new PathSet();
  /** Targets of hard links that lower layers have to provide, hidden or not. */
  readonly #wanted = new PathSet();
  /** What the layer that is being read adds at its end: it hides nothing of itself. */
  #next = new LayerPaths();

  /** Whether a file of a lower layer is hidden. */
  hides(names: readonly RawName[]): boolean {
    if (this.#at.size === 0 && this.#below.size === 0) return false;
    let hash = ROOT_HASH;
    let isBelow = false;
    for (const name of names) {
      isBelow ||= this.#below.has(hash);
      hash = hashStep(hash, name);
    }
    return (isBelow || this.#at.has(hash)) && !this.#wanted.has(hash);
  }

  /** A record of the layer that is being read. */
  note(record: LayerRecord): void {
    const { named, at, below, wanted } = this.#next;
    const path = hashPath(record.names);
    if (record.does === "hardlink") {
      const target = hashPath(record.target);
      if (!named.has(target)) wanted.add(target);
    }
    if (record.does !== "whiteout" && record.does !== "opaque") named.add(path);
    if (record.does !== "opaque") at.add(path);
    if (record.does !== "directory" || record.opaque) below.add(path);
  }

  /** The layer has been read to its end. */
  endLayer(): void {
    this.#at.addAll(this.#next.at);
    this.#below.addAll(this.#next.below);
    this.#wanted.addAll(this.#next.wanted);
    this.#next = new LayerPaths();
  }
}

class LayerPaths {
  readonly named = new PathSet();
  readonly at = new PathSet();
  readonly below = new PathSet();
  readonly wanted = new PathSet();
}
