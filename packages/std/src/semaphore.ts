import { Deferred } from "./deferred.ts";

/** The semaphore's queue is as long as it may get. */
export class QueueFullError extends Error {
  override readonly name = "QueueFullError";
  readonly code = "QUEUE_FULL";
  readonly maxWaiters: number;

  constructor(maxWaiters: number) {
    super(`${maxWaiters} callers wait already`);
    this.maxWaiters = maxWaiters;
  }
}

export interface AcquireOptions {
  readonly signal: AbortSignal;
  /** Called when the caller has to wait and whenever its place changes: 1 is the next to get a permit. If it throws, only its own caller fails. */
  readonly onPosition?: (position: number) => void;
}

interface Waiter {
  readonly permit: Deferred<Disposable>;
  readonly onPosition: ((position: number) => void) | undefined;
  /** The last position told. */
  told: number;
  /** Stops listening to the signal. */
  readonly forget: () => void;
}

/**
 * At most `limit` permits are out at any time, given in the order in which they were asked for.
 * A permit that is given back goes to the oldest waiter directly and never returns to the pool first, so
 * that a newcomer cannot overtake and the limit is never exceeded. A waiter is an entry in a list: it holds nothing.
 */
export class Semaphore {
  readonly #limit: number;
  readonly #maxWaiters: number;
  #active = 0;
  readonly #queue: Waiter[] = [];

  /** `maxWaiters`: how many may wait at once; by default any number. Throws RangeError for a limit below 1. */
  constructor(limit: number, options: { maxWaiters?: number } = {}) {
    if (!Number.isInteger(limit) || limit < 1) throw new RangeError(`a semaphore's limit is at least 1, not ${limit}`);
    this.#limit = limit;
    this.#maxWaiters = options.maxWaiters ?? Infinity;
  }

  /** Permits that are out. */
  get active(): number {
    return this.#active;
  }

  /** Callers that wait. */
  get waiting(): number {
    return this.#queue.length;
  }

  /**
   * Takes a permit; disposing of it (once or more) gives it back. Rejects with the signal's reason if it aborts
   * while waiting, and with QueueFullError if `maxWaiters` wait already. A permit that was handed over just
   * before an abort is still the caller's to dispose of.
   */
  async acquire(options: AcquireOptions): Promise<Disposable> {
    options.signal.throwIfAborted();
    if (this.#active < this.#limit) {
      this.#active += 1;
      return this.#permit();
    }
    if (this.#queue.length >= this.#maxWaiters) throw new QueueFullError(this.#maxWaiters);
    return this.#wait(options);
  }

  #wait({ signal, onPosition }: AcquireOptions): Promise<Disposable> {
    const permit = new Deferred<Disposable>();
    const leave = () => this.#leave(waiter, signal.reason);
    const forget = () => signal.removeEventListener("abort", leave);
    const waiter: Waiter = { permit, onPosition, told: 0, forget };
    signal.addEventListener("abort", leave, { once: true });
    this.#queue.push(waiter);
    this.#tellPositions();
    return permit.promise;
  }

  #permit(): Disposable {
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#handOver();
      },
    };
  }

  #handOver(): void {
    const oldest = this.#queue.shift();
    if (oldest === undefined) {
      this.#active -= 1;
      return;
    }
    oldest.forget();
    oldest.permit.resolve(this.#permit());
    this.#tellPositions();
  }

  #leave(waiter: Waiter, reason: unknown): void {
    const at = this.#queue.indexOf(waiter);
    if (at < 0) return;
    this.#queue.splice(at, 1);
    waiter.forget();
    waiter.permit.reject(reason);
    this.#tellPositions();
  }

  #tellPositions(): void {
    for (let at = 0; at < this.#queue.length; at += 1) {
      const waiter = this.#queue[at];
      const position = at + 1;
      if (waiter?.onPosition === undefined || waiter.told === position) continue;
      waiter.told = position;
      try {
        waiter.onPosition(position);
      } catch (error) {
        this.#leave(waiter, error);
      }
    }
  }
}
