import { Deferred } from "./deferred.ts";
import { QueueFullError } from "./semaphore.ts";

export interface AdmitOptions {
  /** Callers take turns, so that one with five hundred requests does not keep out one with a single one. */
  readonly caller: string;
  readonly signal: AbortSignal;
  /** Called when one has to wait and whenever the place changes: 1 is the next. If it throws, only its own caller fails. */
  readonly onPosition?: (position: number) => void;
}

interface Waiter {
  readonly caller: string;
  /** Whether it got what it waits for. */
  readonly attempt: () => boolean;
  readonly fail: (reason: unknown) => void;
  readonly onPosition: ((position: number) => void) | undefined;
  told: number;
}

/**
 * Lets callers in while there is room, which only their own attempt knows. Who does not get in waits, and is tried
 * again in fair order when something was given back: callers take turns, and the requests of one caller go in the
 * order in which they came. Nobody overtakes the head, so that a large request is not starved by small ones. A waiter
 * is an entry in a list: it holds nothing.
 */
export class FairGate {
  readonly #maxWaiters: number;
  /** Each caller's waiters, oldest first; the callers in the order of their turns. */
  readonly #queues = new Map<string, Waiter[]>();
  #waiting = 0;

  constructor(options: { maxWaiters?: number } = {}) {
    this.#maxWaiters = options.maxWaiters ?? Infinity;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /**
   * Resolves with the first result of `attempt` that is not null; it is called at once if nobody waits, and whenever
   * it is this caller's turn. Rejects with what it throws, with the signal's reason, or with QueueFullError.
   */
  async admit<Result>(attempt: () => Result | null, options: AdmitOptions): Promise<Result> {
    options.signal.throwIfAborted();
    if (this.#waiting === 0) {
      const result = attempt();
      if (result !== null) return result;
    }
    if (this.#waiting >= this.#maxWaiters) throw new QueueFullError(this.#maxWaiters);
    return this.#wait(attempt, options);
  }

  /** Something was given back: lets in whoever fits now. */
  retry(): void {
    for (;;) {
      const head = this.#head();
      if (head === null || !this.#try(head)) break;
    }
    this.#tellPositions();
  }

  #wait<Result>(attempt: () => Result | null, { caller, signal, onPosition }: AdmitOptions): Promise<Result> {
    const admitted = new Deferred<Result>();
    const leave = (): void => this.#fail(waiter, signal.reason);
    const forget = (): void => signal.removeEventListener("abort", leave);
    const waiter: Waiter = {
      caller,
      onPosition,
      told: 0,
      attempt: () => {
        const result = attempt();
        if (result === null) return false;
        forget();
        admitted.resolve(result);
        return true;
      },
      fail: (reason) => {
        forget();
        admitted.reject(reason);
      },
    };
    signal.addEventListener("abort", leave, { once: true });
    const queue = this.#queues.get(caller);
    if (queue === undefined) this.#queues.set(caller, [waiter]);
    else queue.push(waiter);
    this.#waiting += 1;
    this.#tellPositions();
    return admitted.promise;
  }

  #head(): Waiter | null {
    for (const [first] of this.#queues.values()) return first ?? null;
    return null;
  }

  /** Whether the head is gone, and the next may be tried. */
  #try(head: Waiter): boolean {
    try {
      if (!head.attempt()) return false;
    } catch (error) {
      head.fail(error);
    }
    this.#remove(head);
    this.#passTurn(head.caller);
    return true;
  }

  #passTurn(caller: string): void {
    const rest = this.#queues.get(caller);
    if (rest === undefined) return;
    this.#queues.delete(caller);
    this.#queues.set(caller, rest);
  }

  #fail(waiter: Waiter, reason: unknown): void {
    if (!this.#remove(waiter)) return;
    waiter.fail(reason);
    // the head may have stood in the way of others
    this.retry();
  }

  #remove(waiter: Waiter): boolean {
    const queue = this.#queues.get(waiter.caller);
    const at = queue?.indexOf(waiter) ?? -1;
    if (queue === undefined || at < 0) return false;
    queue.splice(at, 1);
    if (queue.length === 0) this.#queues.delete(waiter.caller);
    this.#waiting -= 1;
    return true;
  }

  #tellPositions(): void {
    for (const [index, waiter] of this.#inOrder().entries()) {
      const position = index + 1;
      if (waiter.onPosition === undefined || waiter.told === position) continue;
      waiter.told = position;
      try {
        waiter.onPosition(position);
      } catch (error) {
        this.#fail(waiter, error);
        return;
      }
    }
  }

  /** Everybody in the order in which they would get in: one of each caller, then the next of each. */
  #inOrder(): readonly Waiter[] {
    const order: Waiter[] = [];
    let queues = [...this.#queues.values()];
    // a queue that has had its last turn is left out, so that this takes as long as there are waiters
    for (let round = 0; queues.length > 0; round += 1) {
      for (const queue of queues) order.push(...queue.slice(round, round + 1));
      queues = queues.filter((queue) => queue.length > round + 1);
    }
    return order;
  }
}
