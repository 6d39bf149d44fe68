import type { Clock } from "./clock.ts";
import { Deferred } from "./deferred.ts";

interface Sleeper {
  readonly dueMs: number;
  readonly wake: () => void;
}

/**
 * A clock that moves only when told. Sleepers wake in the order of their due times, those of one time in
 * the order in which they fell asleep.
 */
export class FakeClock implements Clock {
  readonly #startMs: number;
  #elapsedMs = 0;
  readonly #sleepers = new Set<Sleeper>();
  readonly #watchers = new Set<{ count: number; done: Deferred<void> }>();

  /** `startMs`: what `now()` says first, in milliseconds since 1970. */
  constructor(startMs = Date.UTC(2030, 0, 1)) {
    this.#startMs = startMs;
  }

  now(): number {
    return this.#startMs + this.#elapsedMs;
  }

  monotonicMs(): number {
    return this.#elapsedMs;
  }

  sleep(ms: number, { signal }: { signal: AbortSignal }): Promise<void> {
    if (signal.aborted) return Promise.reject(signal.reason);
    const done = new Deferred<void>();
    const sleeper: Sleeper = {
      dueMs: this.#elapsedMs + Math.max(ms, 0),
      wake: () => {
        signal.removeEventListener("abort", leave);
        done.resolve();
      },
    };
    const leave = () => {
      this.#sleepers.delete(sleeper);
      done.reject(signal.reason);
    };
    signal.addEventListener("abort", leave, { once: true });
    this.#sleepers.add(sleeper);
    this.#tellWatchers();
    return done.promise;
  }

  /** How many sleep right now. */
  get sleeping(): number {
    return this.#sleepers.size;
  }

  /** Resolves as soon as at least `count` sleep: the barrier before an `advance`. */
  async untilSleeping(count: number): Promise<void> {
    if (this.#sleepers.size >= count) return;
    const watcher = { count, done: new Deferred<void>() };
    this.#watchers.add(watcher);
    await watcher.done.promise;
  }

  /** Moves time by `ms` in one jump and wakes all who are due by then. What they do next sees the new time. */
  advance(ms: number): void {
    if (!(ms >= 0) || ms === Infinity) throw new RangeError(`a clock cannot advance by ${ms} ms`);
    this.#elapsedMs += ms;
    for (const sleeper of this.#dueBy(this.#elapsedMs)) this.#wake(sleeper);
  }

  /** Moves time by `ms`, stopping at each due time until whoever wakes there has run, so that chains of sleeps play out. */
  async elapse(ms: number): Promise<void> {
    const endMs = this.#elapsedMs + ms;
    await nextTurn();
    for (let [first] = this.#dueBy(endMs); first !== undefined; [first] = this.#dueBy(endMs)) {
      this.advance(Math.max(0, first.dueMs - this.#elapsedMs));
      await nextTurn();
    }
    this.advance(Math.max(0, endMs - this.#elapsedMs));
    await nextTurn();
  }

  #dueBy(limitMs: number): Sleeper[] {
    return [...this.#sleepers].filter((sleeper) => sleeper.dueMs <= limitMs).sort((a, b) => a.dueMs - b.dueMs);
  }

  #wake(sleeper: Sleeper): void {
    if (this.#sleepers.delete(sleeper)) sleeper.wake();
  }

  #tellWatchers(): void {
    for (const watcher of this.#watchers) {
      if (this.#sleepers.size < watcher.count) continue;
      this.#watchers.delete(watcher);
      watcher.done.resolve();
    }
  }
}

/** A timer's turn, so that every promise that can settle has settled. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
