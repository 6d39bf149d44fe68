export type Unit = "ms" | "MiB";

/** What each line of `npm run bench -- --json` holds; see docs for the meaning of each figure. */
export interface Figure {
  readonly name: string;
  readonly unit: Unit;
  readonly n: number;
  readonly failures: number;
  readonly p50: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
  /** The values at equal steps from the smallest to the largest, for a plot; empty where there are too few. */
  readonly spread: readonly number[];
  /** The p50 of each of the others. */
  readonly peers: Readonly<Record<string, number>>;
  /** Ours divided by theirs, each measured in this run. */
  readonly ratios: Readonly<Record<string, number>>;
  /** The others' own p50, and whatever else explains the figure. */
  readonly details: Readonly<Record<string, number | string>>;
  /** Peers that are not installed. */
  readonly skipped: readonly string[];
  readonly goal: Goal | null;
  /** All of them, where there are more than the one. */
  readonly goals?: readonly Goal[];
  /** Whether every goal is met. */
  readonly met: boolean | null;
}

/** p50, p99, a ratio, or one of the details, that is to be no more than `max`. */
export interface Goal {
  readonly field: string;
  readonly max: number;
}

export interface Samples {
  readonly ms: readonly number[];
  readonly failures: number;
}

/** Nearest-rank percentile; null of nothing. */
export const percentile = (values: readonly number[], share: number): number | null => {
  const sorted = [...values].sort((left, right) => left - right);
  const value = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  return value === undefined ? null : Math.round(value * 100) / 100;
};

const SPREAD_STEPS = 50;
/** Fewer are told by their p50 and p99. */
const SPREAD_MIN = 10;

const spreadOf = (values: readonly number[]): readonly number[] =>
  values.length < SPREAD_MIN
    ? []
    : Array.from({ length: SPREAD_STEPS + 1 }, (_, step) => percentile(values, step / SPREAD_STEPS) ?? Number.NaN);

/** Runs both in turn, A B A B, so that drift of the machine falls on both alike. A run that throws counts as a failure. */
export const alternate = async (count: number, runs: Readonly<Record<string, () => Promise<number>>>): Promise<Record<string, Samples>> => {
  const samples = new Map<string, { ms: number[]; failures: number }>(Object.keys(runs).map((name) => [name, { ms: [], failures: 0 }]));
  for (let round = 0; round < count; round += 1) {
    for (const [name, run] of Object.entries(runs)) {
      const kept = samples.get(name);
      if (kept === undefined) continue;
      try {
        kept.ms.push(await run());
      } catch (error) {
        kept.failures += 1;
        process.stderr.write(`bench: ${name}: ${error instanceof Error ? error.message : String(error)}\n`);
      }
    }
  }
  return Object.fromEntries(samples);
};

export const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const began = performance.now();
  await work();
  return performance.now() - began;
};

/** Milliseconds by phase, over many starts. */
export class Phases {
  readonly #ms = new Map<string, number[]>();

  add(phases: Readonly<Record<string, number>>): void {
    for (const [name, ms] of Object.entries(phases)) {
      const kept = this.#ms.get(name);
      if (kept === undefined) this.#ms.set(name, [ms]);
      else kept.push(ms);
    }
  }

  clear(): void {
    this.#ms.clear();
  }

  /** For a figure's details. */
  medians(prefix: string): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#ms].map(([name, ms]) => [`${prefix}${name}`, percentile(ms, 0.5) ?? Number.NaN]));
  }
}

interface Comparison {
  readonly name: string;
  /** Of what `ms` holds, where that is not time. */
  readonly unit?: Unit;
  readonly ours: Samples;
  readonly theirs: Readonly<Record<string, Samples>>;
  readonly goal?: Goal;
  readonly furtherGoals?: readonly Goal[];
  readonly details?: Readonly<Record<string, number | string>>;
  readonly skipped?: readonly string[];
}

/** One figure from samples: ratios of medians, and the goals against `ratios` or `details`. */
export const compare = (comparison: Comparison): Figure => {
  const { name, ours, theirs, goal = null, furtherGoals = [] } = comparison;
  const [p50, p99] = [percentile(ours.ms, 0.5), percentile(ours.ms, 0.99)];
  const medians = Object.entries(theirs).map(([peer, samples]): [string, number | null] => [peer, percentile(samples.ms, 0.5)]);
  const ratios = Object.fromEntries(
    medians.flatMap(([peer, median]) => (p50 === null || median === null ? [] : [[peer, round(p50 / median)]])),
  );
  const peers = Object.fromEntries(medians.flatMap(([peer, median]) => (median === null ? [] : [[peer, median]])));
  const named = Object.fromEntries(Object.entries(peers).map(([peer, median]) => [`${peer}.p50`, median]));
  const details = { ...named, ...comparison.details };
  const failures = ours.failures + Object.values(theirs).reduce((sum, one) => sum + one.failures, 0);
  const goals = goal === null ? furtherGoals : [goal, ...furtherGoals];
  const isMet = ({ field, max }: Goal): boolean => {
    const reached = reachedOf({ p50, p99, ratios, details }, field);
    return reached !== null && reached <= max;
  };
  return {
    name,
    unit: comparison.unit ?? "ms",
    n: ours.ms.length,
    failures,
    p50,
    p95: percentile(ours.ms, 0.95),
    p99,
    spread: spreadOf(ours.ms),
    peers,
    ratios,
    details,
    skipped: comparison.skipped ?? [],
    goal,
    ...(furtherGoals.length === 0 ? {} : { goals }),
    met: goals.length === 0 ? null : goals.every(isMet),
  };
};

/** What a figure has where a goal looks. */
export const reachedOf = (
  { p50, p99, ratios, details }: Pick<Figure, "p50" | "p99" | "ratios" | "details">,
  field: string,
): number | null => {
  const reached = field === "p50" ? p50 : field === "p99" ? p99 : (ratios[field] ?? details[field]);
  return typeof reached === "number" ? reached : null;
};

const round = (value: number): number => Math.round(value * 1000) / 1000;
