/** In which order scenarios run, what runs beside what, and how long. */
import { inspect } from "node:util";
import { CLEANUP_MS, DEADLINE_MS, GRACE_MS } from "./limits.ts";
import type { Scenario } from "./scenario.ts";

/** One scenario's place, for as long as it runs. */
export interface Opened {
  run(): Promise<void>;
  /** All that helps to understand the failure, gathered while what failed is still there. Does not throw. */
  explain(error: unknown): Promise<string>;
  /** What the scenario did. */
  transcript(): string;
  /** Removes what it made. Throws where something is left that should not be. */
  close(): Promise<void>;
}

/** Where scenarios run. */
export interface Host {
  /** The signal aborts when the scenario's time is over. */
  open(scenario: Scenario, signal: AbortSignal): Promise<Opened>;
}

export interface Ended {
  readonly scenario: Scenario;
  readonly state: "passed" | "failed" | "skipped";
  /** With what it took to clean up behind it. */
  readonly ms: number;
  /** Why it failed, or was skipped; empty where it passed. */
  readonly report: string;
  readonly transcript: string;
}

export interface RunnerOptions {
  readonly host: Host;
  /** Isolated scenarios at once. */
  readonly jobs: number;
  /** Sees each scenario once, when it has ended and all of it is there to be shown. */
  readonly onEnd: (ended: Ended) => void;
  /** No further scenario begins, and those under way are over. */
  readonly signal: AbortSignal;
  readonly graceMs?: number;
}

/** The isolated ones, several at once and in their order; behind them the global ones, one by one. */
export const runScenarios = async (scenarios: readonly Scenario[], options: RunnerOptions): Promise<readonly Ended[]> => {
  const { jobs, onEnd, signal } = options;
  const ended: Ended[] = [];
  const work = async (queue: Scenario[]): Promise<void> => {
    for (let next = queue.shift(); next !== undefined && !signal.aborted; next = queue.shift()) {
      const one = await runOne(next, options);
      ended.push(one);
      onEnd(one);
    }
  };
  const parts = {
    isolated: [...scenarios].filter(({ kind }) => kind === "isolated"),
    global: scenarios.filter(({ kind }) => kind === "global"),
  };
  await Promise.all(Array.from({ length: Math.min(jobs, parts.isolated.length) }, () => work(parts.isolated)));
  await work(parts.global);
  return ended;
};

const runOne = async (scenario: Scenario, { host, signal, graceMs = GRACE_MS }: RunnerOptions): Promise<Ended> => {
  const began = performance.now();
  const end = (state: Ended["state"], report: string, transcript = ""): Ended => ({
    ...{ scenario, state, report, transcript },
    ms: performance.now() - began,
  });
  if (typeof scenario.skip === "string") return end("skipped", scenario.skip);
  const deadlineMs = scenario.deadlineMs ?? DEADLINE_MS;
  const late = new AbortController();
  // not a signal's own timeout: it would not keep this program alive where a scenario waits for nothing that does
  const timer = setTimeout(() => late.abort(new Error(`it is not done after ${deadlineMs} ms`)), deadlineMs);
  const over = AbortSignal.any([signal, late.signal]);
  const complaints: string[] = [];
  let opened: Opened | null = null;
  try {
    opened = await host.open(scenario, over);
    await untilLate(opened.run(), { over, graceMs });
    late.signal.throwIfAborted();
  } catch (error) {
    const failure = late.signal.aborted ? new Error(`it is not done after ${deadlineMs} ms`, { cause: error }) : error;
    complaints.push((await opened?.explain(failure)) ?? describeError(failure));
  }
  clearTimeout(timer);
  try {
    if (opened !== null) await untilLate(opened.close(), { over: AbortSignal.abort(), graceMs: 2 * CLEANUP_MS });
  } catch (error) {
    complaints.push(`at its end: ${describeError(error)}`);
  }
  return end(complaints.length === 0 ? "passed" : "failed", complaints.join("\n"), opened?.transcript() ?? "");
};

/** As `work` ends; fails where it goes on in spite of its signal. */
const untilLate = async (work: Promise<void>, { over, graceMs }: { over: AbortSignal; graceMs: number }): Promise<void> => {
  const { promise: stuck, reject } = Promise.withResolvers<never>();
  let timer: NodeJS.Timeout | undefined;
  const wait = (): void => {
    timer = setTimeout(() => reject(new Error(`it goes on ${graceMs} ms after it was told to stop`)), graceMs);
  };
  if (over.aborted) wait();
  over.addEventListener("abort", wait, { once: true });
  try {
    await Promise.race([work, stuck]);
  } finally {
    over.removeEventListener("abort", wait);
    clearTimeout(timer);
  }
};

/** An error with its causes, each on a line. */
export const describeError = (error: unknown): string => {
  const lines: string[] = [];
  for (let one = error; one !== undefined && one !== null; one = one instanceof Error ? one.cause : undefined) {
    lines.push(one instanceof Error ? (one.stack ?? one.message) : inspect(one));
    if (one instanceof AggregateError) lines.push(...one.errors.map((inner: unknown) => describeError(inner)));
    if (one instanceof SuppressedError) lines.push(describeError(one.error), describeError(one.suppressed));
  }
  return lines.join("\ncaused by ");
};
