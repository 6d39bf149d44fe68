import type { Clock } from "@kiln/std";
import { Dice } from "./dice.ts";
import { type Life, WORLD } from "./life.ts";

/** Somebody who waits to go on. */
interface Parked {
  readonly label: string;
  readonly life: Life;
  readonly go: () => void;
}

interface Sleeper extends Parked {
  readonly dueMs: number;
}

/** How a schedule orders those who could go on: one way finds what another does not. */
export type Bias = "any" | "newest" | "oldest" | "starve";

export interface SchedulerOptions {
  /** By default the seed decides. */
  readonly bias?: Bias;
  /** More steps than this are a livelock. */
  readonly maxSteps?: number;
  /** Called before each step, when nothing runs: the place to look whether all is well. What it throws ends the run. */
  readonly onStep?: (label: string) => void;
}

/** Nobody can go on, no timer runs, and what was to end has not. */
export class StuckError extends Error {
  override readonly name = "StuckError";
}

const BIASES: readonly Bias[] = ["any", "any", "newest", "oldest", "starve"];
const MAX_STEPS = 100_000;
/** Mostly the first by its bias, now and then another. */
const FOLLOWS_BIAS = 0.7;
/** Time may go on while somebody could: a slow step. */
const TIME_PASSES = 0.05;
/** So many kinds of step are starved. */
const STARVED = 0.3;
const START_MS = Date.UTC(2030, 0, 1);

/**
 * Runs asynchronous code in an order that a seed decides. Every wait of the code under test goes through `step` or the
 * clock; between two of them it runs alone, to the last microtask. Same seed, same code: the same order, so that a failure
 * is replayed by its seed. No thread, no file, no socket may be waited for meanwhile: that order is nobody's.
 */
export class Scheduler {
  readonly dice: Dice;
  readonly bias: Bias;
  readonly #options: SchedulerOptions;
  readonly #parked: Parked[] = [];
  readonly #sleepers: Sleeper[] = [];
  /** In a "starve" schedule, by label: who goes on only when nobody else can. */
  readonly #starved = new Map<string, boolean>();
  #elapsedMs = 0;
  #steps = 0;
  /** The labels of the steps taken, in order, where they are asked for. */
  readonly trace: string[] | null;
  /** No step is slower than this: a longer timer is due only when nobody else can go on. */
  slowestStepMs = Infinity;

  constructor(seed: number, { trace = false, ...options }: SchedulerOptions & { readonly trace?: boolean } = {}) {
    this.dice = new Dice(seed);
    this.bias = options.bias ?? this.dice.pick(BIASES);
    this.#options = options;
    this.trace = trace ? [] : null;
  }

  get steps(): number {
    return this.#steps;
  }

  /** Resolves when it is its turn; never if its life has ended by then. */
  step(label: string, life: Life = WORLD): Promise<void> {
    return new Promise((resolve) => this.#parked.push({ label, life, go: resolve }));
  }

  /** The time of the simulation as a life sees it. It passes where nobody can go on, or where the dice say that a step is slow. */
  clockOf(life: Life = WORLD): Clock {
    return {
      now: () => START_MS + this.#elapsedMs,
      monotonicMs: () => this.#elapsedMs,
      sleep: (ms, { signal }) => this.#sleep(ms, { signal, life }),
    };
  }

  /** Runs `main`, and all that it sets off, until it has ended. Throws what it throws, or StuckError. */
  async run<Result>(main: () => Promise<Result>): Promise<Result> {
    let outcome: { readonly ok: boolean; readonly value: unknown } | null = null;
    main().then(
      (value) => (outcome = { ok: true, value }),
      (error: unknown) => (outcome = { ok: false, value: error }),
    );
    const ended = (): { readonly ok: boolean; readonly value: unknown } | null => outcome;
    for (await drained(); ended() === null; await drained()) this.#next();
    const { ok, value } = ended() as unknown as { ok: boolean; value: unknown };
    if (!ok) throw value;
    return value as Result;
  }

  #next(): void {
    this.#bury();
    const next = this.#takeParked() ?? this.#takeSleeper();
    if (next === null) throw new StuckError(`nobody can go on after ${this.#steps} steps`);
    this.#steps += 1;
    if (this.#steps > (this.#options.maxSteps ?? MAX_STEPS)) throw new StuckError(`no end after ${this.#steps} steps`);
    this.trace?.push(next.life === WORLD ? next.label : `${next.life.name}: ${next.label}`);
    this.#options.onStep?.(next.label);
    // what looks may end a life
    if (!next.life.isOver) next.go();
  }

  #bury(): void {
    for (const list of [this.#parked, this.#sleepers]) {
      let kept = 0;
      for (const one of list) if (!one.life.isOver) list[kept++] = one;
      list.length = kept;
    }
  }

  #takeParked(): Parked | null {
    const parked = this.#parked;
    if (parked.length === 0 || (this.#sleepers.length > 0 && this.#isNear() && this.dice.chance(TIME_PASSES))) return null;
    const [taken] = parked.splice(this.#choose(), 1);
    return taken ?? null;
  }

  #isNear(): boolean {
    return this.#sleepers.some(({ dueMs }) => dueMs < Infinity && dueMs - this.#elapsedMs <= this.slowestStepMs);
  }

  #choose(): number {
    const parked = this.#parked;
    if (this.bias === "any" || !this.dice.chance(FOLLOWS_BIAS)) return this.dice.below(parked.length);
    if (this.bias === "newest") return parked.length - 1;
    if (this.bias === "oldest") return 0;
    return Math.max(
      parked.findIndex(({ label }) => !this.#isStarved(label)),
      0,
    );
  }

  #isStarved(label: string): boolean {
    const known = this.#starved.get(label);
    if (known !== undefined) return known;
    const drawn = this.dice.chance(STARVED);
    this.#starved.set(label, drawn);
    return drawn;
  }

  #takeSleeper(): Sleeper | null {
    const dueMs = Math.min(...this.#sleepers.map((one) => one.dueMs));
    if (!Number.isFinite(dueMs)) return this.#parked.length > 0 ? this.#takeAnyParked() : null;
    const due = this.#sleepers.filter((one) => one.dueMs === dueMs);
    const taken = this.dice.pick(due);
    this.#sleepers.splice(this.#sleepers.indexOf(taken), 1);
    this.#elapsedMs = Math.max(this.#elapsedMs, dueMs);
    return taken;
  }

  #takeAnyParked(): Sleeper | null {
    const [taken] = this.#parked.splice(this.dice.below(this.#parked.length), 1);
    return taken === undefined ? null : { ...taken, dueMs: this.#elapsedMs };
  }

  #sleep(ms: number, { signal, life }: { signal: AbortSignal; life: Life }): Promise<void> {
    if (signal.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        const at = this.#sleepers.indexOf(sleeper);
        if (at >= 0) this.#sleepers.splice(at, 1);
        reject(signal.reason);
      };
      const go = (): void => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      const sleeper: Sleeper = { label: "clock", life, dueMs: this.#elapsedMs + Math.max(ms, 0), go };
      signal.addEventListener("abort", leave, { once: true });
      this.#sleepers.push(sleeper);
    });
  }
}

/** The next turn of the event loop: every promise that can settle has settled. */
const drained = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
