import type { Scheduler } from "../sim/scheduler.ts";
import { runSeed, type Verdict } from "../sim/seeds.ts";
import { type Exhibit, Violation } from "./exhibit.ts";

/** What both sides of an exhibit came to under the same seeds. */
export interface Judgement {
  readonly exhibit: Exhibit;
  readonly seeds: number;
  /** Its failure with the fewest steps, by what the exhibit is about; null: there is none. */
  readonly naive: Verdict | null;
  /** Under how many of the seeds it fails so. */
  readonly naiveFailures: number;
  /** The naive one has failed by something that is no check: the scenario is at fault. */
  readonly crash: Verdict | null;
  /** The first failure of Kiln's; null: it passes all. */
  readonly kiln: Verdict | null;
}

type Side = (scheduler: Scheduler) => Promise<void>;

interface Seeds {
  readonly first: number;
  readonly count: number;
  /** No further seed is played after a failure of which this is true. */
  readonly isEnough: (failure: Error) => boolean;
}

const failuresOf = async (side: Side, { first, count, isEnough }: Seeds): Promise<readonly Verdict[]> => {
  const failures: Verdict[] = [];
  for (let seed = first; seed < first + count; seed += 1) {
    const verdict = await runSeed(seed, side);
    if (verdict.failure === null) continue;
    failures.push(verdict);
    if (isEnough(verdict.failure)) break;
  }
  return failures;
};

const SEEDS = 200;

/** `brief`: one order that breaks the naive way is enough; which one is the shortest is not asked. */
export const judge = async (
  exhibit: Exhibit,
  how: { readonly first?: number; readonly count?: number; readonly brief?: boolean } = {},
): Promise<Judgement> => {
  const { first = 1, count = exhibit.seeds ?? SEEDS, brief = false } = how;
  const naive = await failuresOf(exhibit.naive, { first, count, isEnough: (failure) => brief && isComplaint(exhibit, failure) });
  const [kiln = null] = await failuresOf(exhibit.kiln, { first, count, isEnough: () => true });
  const shown = naive.filter(({ failure }) => isComplaint(exhibit, failure));
  const crash = naive.find(({ failure }) => !(failure instanceof Violation)) ?? null;
  const shortest = shown.toSorted((one, other) => one.steps - other.steps)[0] ?? null;
  return { exhibit, seeds: count, naive: shortest, naiveFailures: shown.length, crash, kiln };
};

const isComplaint = ({ complaint }: Exhibit, failure: Error | null): boolean =>
  failure instanceof Violation && failure.message.includes(complaint);

/** What is wrong with an exhibit; empty where it shows what it is to show. */
export const complaintsOf = ({ exhibit, seeds, naive, crash, kiln }: Judgement): readonly string[] => [
  ...(naive === null ? [`${exhibit.id}: no seed of ${seeds} makes the naive one fail with "${exhibit.complaint}"`] : []),
  ...(crash === null ? [] : [`${exhibit.id}: the naive one crashes at seed ${crash.seed}: ${String(crash.failure)}`]),
  ...(kiln === null ? [] : [`${exhibit.id}: Kiln fails at seed ${kiln.seed}: ${String(kiln.failure)}`]),
];
