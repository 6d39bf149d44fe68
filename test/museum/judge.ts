import type { Scheduler } from "../sim/scheduler.ts";
import { runSeed, type Verdict } from "../sim/seeds.ts";
import { type Exhibit, Violation } from "./exhibit.ts";

/** What both sides of an exhibit came to under the same seeds. */
export interface Judgement {
  readonly exhibit: Exhibit;
  readonly seeds: number;
  /** The failure with the fewest steps; null: the naive one passes all. */
  readonly naive: Verdict | null;
  /** Under how many of the seeds the naive one fails. */
  readonly naiveFailures: number;
  /** The first failure of Kiln's; null: it passes all. */
  readonly kiln: Verdict | null;
}

type Side = (scheduler: Scheduler) => Promise<void>;

const failuresOf = async (side: Side, { first, count }: { first: number; count: number }): Promise<readonly Verdict[]> => {
  const failures: Verdict[] = [];
  for (let seed = first; seed < first + count; seed += 1) {
    const verdict = await runSeed(seed, side);
    if (verdict.failure !== null) failures.push(verdict);
  }
  return failures;
};

export const judge = async (exhibit: Exhibit, { first = 1, count }: { first?: number; count: number }): Promise<Judgement> => {
  const naive = await failuresOf(exhibit.naive, { first, count });
  const [kiln = null] = await failuresOf(exhibit.kiln, { first, count });
  const shortest = naive.toSorted((one, other) => one.steps - other.steps)[0] ?? null;
  return { exhibit, seeds: count, naive: shortest, naiveFailures: naive.length, kiln };
};

/** What is wrong with an exhibit; empty where it shows what it is to show. */
export const complaintsOf = ({ exhibit, seeds, naive, kiln }: Judgement): readonly string[] => {
  const complaints: string[] = [];
  if (naive === null) complaints.push(`${exhibit.id}: the naive one passes all ${seeds} seeds`);
  else if (!(naive.failure instanceof Violation) || !naive.failure.message.includes(exhibit.complaint)) {
    complaints.push(`${exhibit.id}: the naive one fails at seed ${naive.seed} by something else: ${String(naive.failure)}`);
  }
  if (kiln !== null) complaints.push(`${exhibit.id}: Kiln fails at seed ${kiln.seed}: ${String(kiln.failure)}`);
  return complaints;
};
