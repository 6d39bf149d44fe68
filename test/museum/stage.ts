import type { SimDisk, SimFiles } from "../sim/disk.ts";
import { Life } from "../sim/life.ts";
import type { Scheduler } from "../sim/scheduler.ts";

/** Somebody in a scenario: a client, a builder, a process. Its steps and its remarks have its name in the trace. */
export class Actor {
  readonly name: string;
  readonly life: Life;
  readonly #scheduler: Scheduler;

  constructor(scheduler: Scheduler, name: string) {
    this.#scheduler = scheduler;
    this.name = name;
    this.life = new Life(name);
  }

  /** Others may go on before this does. */
  step(label: string): Promise<void> {
    return this.#scheduler.step(label, this.life);
  }

  /** What it has just done or seen, for whoever reads the trace; no step. */
  says(what: string): void {
    this.#scheduler.trace?.push(`  ${this.name} ${what}`);
  }

  files(disk: SimDisk): SimFiles {
    return disk.filesOf(this.life);
  }
}

export const actors = (scheduler: Scheduler, ...names: readonly string[]): readonly Actor[] =>
  names.map((name) => new Actor(scheduler, name));

/** What came of a call that may fail. */
export type Outcome<Value> = { readonly ok: true; readonly value: Value } | { readonly ok: false; readonly error: Error };

export const outcomeOf = async <Value>(call: Promise<Value>): Promise<Outcome<Value>> => {
  try {
    return { ok: true, value: await call };
  } catch (error) {
    return { ok: false, error: error instanceof Error ? error : new Error(String(error)) };
  }
};

/** Time passes in which others could go on, too: whoever still waits after so many hours waits for ever. */
const HOURS = 16;
const HOUR_MS = 3_600_000;

export const waitForEver = async (scheduler: Scheduler): Promise<void> => {
  const { signal } = new AbortController();
  for (let hour = 0; hour < HOURS; hour += 1) await scheduler.clockOf().sleep(HOUR_MS, { signal });
};
