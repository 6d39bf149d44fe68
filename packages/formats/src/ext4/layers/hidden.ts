import type { RawName } from "../../tar/index.ts";
import type { LayerRecord } from "./record.ts";

const join = (names: readonly RawName[]): RawName => names.join("/");

/**
 * What the layers read so far hide from those below. It goes by the paths as they are written, so it can be wrong where symlinks or hard
 * links lead elsewhere: it only saves work, and content that turns out to be needed is read again.
 */
export class HiddenPaths {
  /** Paths that lower files cannot be seen at. */
  readonly #at = new Set<RawName>();
  /** Paths that nothing lower can be seen below. */
  readonly #below = new Set<RawName>();
  /** Targets of hard links that lower layers have to provide, hidden or not. */
  readonly #wanted = new Set<RawName>();

  /** Whether a file of a lower layer is hidden. */
  hides(names: readonly RawName[]): boolean {
    if (this.#at.size === 0 && this.#below.size === 0) return false;
    const path = join(names);
    if (this.#wanted.has(path)) return false;
    if (this.#at.has(path) || this.#below.has("")) return true;
    for (let slash = path.indexOf("/"); slash !== -1; slash = path.indexOf("/", slash + 1)) {
      if (this.#below.has(path.slice(0, slash))) return true;
    }
    return false;
  }

  /** Counts a layer in, once it has been read to its end: it hides nothing of itself. */
  add(records: readonly LayerRecord[]): void {
    const named = new Set<RawName>();
    for (const record of records) {
      const path = join(record.names);
      if (record.does === "hardlink" && !named.has(join(record.target))) this.#wanted.add(join(record.target));
      if (record.does !== "whiteout" && record.does !== "opaque") named.add(path);
      if (record.does !== "opaque") this.#at.add(path);
      if (record.does !== "directory" || record.opaque) this.#below.add(path);
    }
  }
}
