import type { Digest } from "@kiln/protocol";
import type { Clock } from "@kiln/std";
import type { ContentLease } from "./ports.ts";

/** A caller that sends blobs names them within this time, or sends them again. */
const UPLOAD_MS = 10 * 60_000;

/**
 * Which blobs (by digest) and rootfs (by key) are on their way to a name or a VM. A lease is taken before one looks
 * whether a thing is there, and the sweep asks in the same turn in which it deletes, so that what was seen stays (I23).
 */
export class ContentLeases {
  readonly #clock: Clock;
  /** How many leases hold each name. */
  readonly #held = new Map<string, number>();
  /** Until when each digest that a caller sends is kept. */
  readonly #uploads = new Map<string, number>();
  #active = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** For work that ends by naming what it stored. */
  begin(): ContentLease {
    const mine = new Set<string>();
    this.#active += 1;
    let ended = false;
    return {
      hold: (name) => {
        if (ended || mine.has(name)) return;
        mine.add(name);
        this.#held.set(name, (this.#held.get(name) ?? 0) + 1);
      },
      [Symbol.dispose]: () => {
        if (ended) return;
        ended = true;
        this.#active -= 1;
        for (const name of mine) this.#letGo(name);
      },
    };
  }

  /** For a caller who sends an image over several requests. */
  holdUpload(digest: Digest): void {
    this.#forgetOldUploads();
    this.#uploads.set(digest, this.#clock.monotonicMs() + UPLOAD_MS);
  }

  isHeld(name: string): boolean {
    return this.#held.has(name) || (this.#uploads.get(name) ?? -Infinity) > this.#clock.monotonicMs();
  }

  /** Work that is storing something now. */
  get active(): number {
    return this.#active;
  }

  #letGo(name: string): void {
    const count = (this.#held.get(name) ?? 0) - 1;
    if (count > 0) this.#held.set(name, count);
    else this.#held.delete(name);
  }

  #forgetOldUploads(): void {
    const now = this.#clock.monotonicMs();
    for (const [digest, until] of this.#uploads) if (until <= now) this.#uploads.delete(digest);
  }
}
