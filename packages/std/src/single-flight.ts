import { abortable } from "./abortable.ts";
import { Deferred } from "./deferred.ts";

export interface WorkContext<Progress> {
  /** Aborts when the last caller has left. */
  readonly signal: AbortSignal;
  /** Tells all who wait; whoever joins later is told the latest. */
  report(progress: Progress): void;
}

export type Work<Value, Progress> = (context: WorkContext<Progress>) => Promise<Value>;

export interface RunOptions<Progress> {
  readonly signal: AbortSignal;
  /** Called with the latest progress on joining and with each later one. If it throws, only its own caller leaves, with that error. */
  readonly onProgress?: (progress: Progress) => void;
  /** Called if the work was running already. */
  readonly onJoin?: () => void;
}

/**
 * Work on a key is done once at a time, for all who ask while it runs. The semantics are those of
 * BuildKit's flightcontrol: each caller leaves by its own signal; the work's signal aborts when the last has
 * left; a failure goes to those who waited and is not kept; whoever comes while the work is being
 * cancelled waits for its end and starts afresh. Different keys run in parallel. A caller that waits is an
 * entry in a set: it holds no lock.
 *
 * Work on a key must not run the same key: it would wait for itself.
 */
export class SingleFlight<Key extends string, Value, Progress = never> {
  readonly #flights = new Map<Key, Flight<Value, Progress>>();

  /**
   * Joins the work on `key`, or starts it (at once, in this turn). Resolves and rejects as the work does. If the
   * caller's signal aborts it rejects with the reason: immediately while others wait on, and after the work has
   * stopped if the caller was the last. What the work returns or throws after that is dropped.
   */
  async run(key: Key, work: Work<Value, Progress>, options: RunOptions<Progress>): Promise<Value> {
    for (;;) {
      options.signal.throwIfAborted();
      const flight = this.#flights.get(key);
      if (flight === undefined) return this.#start(key, work, options);
      if (!flight.cancelled) return flight.join(options, { late: true });
      await abortable(flight.ended, options.signal);
    }
  }

  /** How many wait for the work on `key` now. */
  waiters(key: Key): number {
    return this.#flights.get(key)?.waiters ?? 0;
  }

  #start(key: Key, work: Work<Value, Progress>, options: RunOptions<Progress>): Promise<Value> {
    const flight = new Flight<Value, Progress>(() => this.#flights.delete(key));
    this.#flights.set(key, flight);
    const answer = flight.join(options, { late: false });
    flight.start(work);
    return answer;
  }
}

interface Waiter<Value, Progress> {
  readonly answer: Deferred<Value>;
  readonly onProgress: ((progress: Progress) => void) | undefined;
  /** Stops listening to the caller's signal. */
  readonly forget: () => void;
}

/** One run of the work on one key. */
class Flight<Value, Progress> {
  readonly #controller = new AbortController();
  readonly #waiters = new Set<Waiter<Value, Progress>>();
  readonly #ended = new Deferred<void>();
  readonly #onEnd: () => void;
  #latest: { readonly progress: Progress } | null = null;

  /** `onEnd` is called in the same turn in which the waiters are answered, before them. */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  /** Resolves when the work has stopped, however it ended. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  get cancelled(): boolean {
    return this.#controller.signal.aborted;
  }

  get waiters(): number {
    return this.#waiters.size;
  }

  join({ signal, onProgress, onJoin }: RunOptions<Progress>, { late }: { late: boolean }): Promise<Value> {
    const leave = () => this.#leave(waiter, signal.reason);
    const waiter: Waiter<Value, Progress> = {
      answer: new Deferred(),
      onProgress,
      forget: () => signal.removeEventListener("abort", leave),
    };
    signal.addEventListener("abort", leave, { once: true });
    this.#waiters.add(waiter);
    if (late) {
      this.#tell(waiter, () => {
        onJoin?.();
        if (this.#latest !== null) onProgress?.(this.#latest.progress);
      });
    }
    return waiter.answer.promise;
  }

  start(work: Work<Value, Progress>): void {
    const context: WorkContext<Progress> = {
      signal: this.#controller.signal,
      report: (progress) => this.#report(progress),
    };
    const running = (async () => work(context))();
    running.then(
      (value) => this.#end((waiter) => waiter.answer.resolve(value)),
      (error: unknown) => this.#end((waiter) => waiter.answer.reject(error)),
    );
  }

  #report(progress: Progress): void {
    this.#latest = { progress };
    for (const waiter of [...this.#waiters]) {
      if (this.#waiters.has(waiter)) this.#tell(waiter, () => waiter.onProgress?.(progress));
    }
  }

  #tell(waiter: Waiter<Value, Progress>, tell: () => void): void {
    try {
      tell();
    } catch (error) {
      this.#leave(waiter, error);
    }
  }

  #leave(waiter: Waiter<Value, Progress>, reason: unknown): void {
    if (!this.#waiters.delete(waiter)) return;
    waiter.forget();
    if (this.#waiters.size > 0) {
      waiter.answer.reject(reason);
      return;
    }
    void this.#ended.promise.then(() => waiter.answer.reject(reason));
    this.#controller.abort(reason);
  }

  #end(answer: (waiter: Waiter<Value, Progress>) => void): void {
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    this.#onEnd();
    for (const waiter of waiters) {
      waiter.forget();
      answer(waiter);
    }
    this.#ended.resolve();
  }
}
