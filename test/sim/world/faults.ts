import { KilnError } from "@kiln/protocol";
import type { Life } from "../life.ts";
import type { Scheduler } from "../scheduler.ts";

/** How probable each trouble is, at each call where it can happen. */
export interface Faults {
  /** A call of any port takes up to some seconds. */
  readonly slow: number;
  /** A request to the registry fails: it cannot be reached, has a bad day, or takes the caller for another. */
  readonly registry: number;
  /** A write finds no room. */
  readonly disk: number;
  /** The VMM does not do what it is told, and says so. */
  readonly vmm: number;
  /** A VMM dies at a call that is about it. */
  readonly death: number;
  /** The channel to an agent breaks off where something is sent. */
  readonly channel: number;
  /** An address of the host is taken by a stranger. */
  readonly port: number;
  /** The daemon is killed at a step of its own. */
  readonly kill: number;
}

export const NO_FAULTS: Faults = { slow: 0, registry: 0, disk: 0, vmm: 0, death: 0, channel: 0, port: 0, kill: 0 };

const SLOWEST_MS = 4_000;
const NEVER = new AbortController().signal;

/** Throws the dice for what goes wrong. One for a world: what is set here holds from the next call on. */
export class Troubles {
  readonly #scheduler: Scheduler;
  readonly #kill: () => void;
  readonly #onStep: () => void;
  faults: Faults;

  constructor(scheduler: Scheduler, options: { faults: Faults; kill: () => void; onStep: () => void }) {
    this.#scheduler = scheduler;
    this.#kill = options.kill;
    this.#onStep = options.onStep;
    this.faults = options.faults;
  }

  happens(kind: keyof Faults): boolean {
    const probability = this.faults[kind];
    return probability > 0 && this.#scheduler.dice.chance(probability);
  }

  pick<Item>(items: readonly Item[]): Item {
    return this.#scheduler.dice.pick(items);
  }

  /** A place where a daemon waits: others go on, time passes, or it dies here. */
  async step(label: string, life: Life): Promise<void> {
    await this.#scheduler.step(label, life);
    this.#onStep();
    if (this.happens("kill")) {
      this.#kill();
      return new Promise(() => undefined);
    }
    if (this.happens("slow")) await this.#scheduler.clockOf(life).sleep(this.#scheduler.dice.below(SLOWEST_MS), { signal: NEVER });
  }
}

/** What a VMM says that does not do what it is told. */
export const vmmFailure = (action: string): KilnError => new KilnError("VMM_FAILED", `${action}: the simulated VMM has failed`);
