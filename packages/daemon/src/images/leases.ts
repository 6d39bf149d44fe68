import type { Clock } from "@kiln/std";
import type { ContentLease } from "./ports.ts";

/** A caller that sends blobs, or tries a failed pull again, does so within this time, or begins afresh. */
const LINGER_MS = 10 * 60_000;

/**
 * Which blobs (by digest) and rootfs (by key) are on their way to a name or a VM. A lease is taken before one looks
 * whether a thing is there, and the sweep asks in the same turn in which it deletes, so that what was seen stays (I23).
 */
export class ContentLeases {
  readonly #clock: Clock;
  /** The owners of the leases that hold each name; one that holds it twice is there twice. */
  readonly #held = new Map<string, readonly string[]>();
  /** Until when each name is kept that no lease holds. */
  readonly #lingering = new Map<string, number>();
  #active = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** For work that ends by naming what it stored. `owner` says whose it is, to those who ask why a thing is kept. */
  begin(owner = ""): ContentLease {
    const mine = new Set<string>();
    this.#active += 1;
    let [ended, lingers] = [false, false];
    return {
      hold: (name) => {
        if (ended || mine.has(name)) return;
        mine.add(name);
        this.#held.set(name, [...(this.#held.get(name) ?? []), owner]);
      },
      linger: () => {
        lingers = true;
      },
      [Symbol.dispose]: () => {
        if (ended) return;
        ended = true;
        this.#active -= 1;
        for (const name of mine) {
          if (lingers) this.holdForAWhile(name);
          this.#letGo(name, owner);
        }
      },
    };
  }

  /** For a caller who sends an image over several requests. */
  holdForAWhile(name: string): void {
    const now = this.#clock.monotonicMs();
    for (const [other, until] of this.#lingering) if (until <= now) this.#lingering.delete(other);
    this.#lingering.set(name, now + LINGER_MS);
  }

  /** Names that have found their record, or that a person wants gone: from now on only leases hold them. */
  endLingering(names: Iterable<string> = this.#lingering.keys()): void {
    for (const name of [...names]) this.#lingering.delete(name);
  }

  /** By work that is under way. */
  isLeased(name: string): boolean {
    return this.#held.has(name);
  }

  isHeld(name: string): boolean {
    return this.#held.has(name) || (this.#lingering.get(name) ?? -Infinity) > this.#clock.monotonicMs();
  }

  /** Whose leases hold it, and whether it is only kept for a while for somebody who has gone. */
  holders(name: string): { readonly owners: readonly string[]; readonly lingers: boolean } {
    return { owners: this.#held.get(name) ?? [], lingers: !this.#held.has(name) && this.isHeld(name) };
  }

  /** Work that is storing something now. */
  get active(): number {
    return this.#active;
  }

  #letGo(name: string, owner: string): void {
    const owners = this.#held.get(name) ?? [];
    const rest = owners.toSpliced(owners.indexOf(owner), 1);
    if (rest.length > 0) this.#held.set(name, rest);
    else this.#held.delete(name);
  }
}
