import { Scheduler, type SchedulerOptions } from "./scheduler.ts";

/** What one seed came to. */
export interface Verdict {
  readonly seed: number;
  /** null: all was well. */
  readonly failure: Error | null;
  readonly steps: number;
}

/** Runs `scenario` once in the order of `seed`. What it throws is its failure. */
export const runSeed = async (
  seed: number,
  scenario: (scheduler: Scheduler) => Promise<void>,
  options: SchedulerOptions & { readonly trace?: boolean } = {},
): Promise<Verdict> => {
  const scheduler = new Scheduler(seed, options);
  try {
    await scheduler.run(() => scenario(scheduler));
    return { seed, failure: null, steps: scheduler.steps };
  } catch (error) {
    return { seed, failure: error instanceof Error ? error : new Error(String(error)), steps: scheduler.steps };
  }
};

/** The first of `count` seeds from `first` on that fails; null if none does. */
export const firstFailure = async (
  scenario: (scheduler: Scheduler) => Promise<void>,
  { first = 1, count }: { readonly first?: number; readonly count: number },
): Promise<Verdict | null> => {
  for (let seed = first; seed < first + count; seed += 1) {
    const verdict = await runSeed(seed, scenario);
    if (verdict.failure !== null) return verdict;
  }
  return null;
};
