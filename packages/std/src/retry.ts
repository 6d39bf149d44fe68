import type { Clock } from "./clock.ts";
import { randomFraction, type RandomSource } from "./random.ts";

export interface RetryOptions {
  /** How often to try in all, the first time included; at least 1. */
  readonly attempts: number;
  /** The pause after the first failure; each further one is twice as long. */
  readonly baseMs: number;
  /** No pause is longer than this. */
  readonly maxMs: number;
  readonly clock: Clock;
  /** Draws each pause between half of it and all of it, so that many callers do not come back at once. Without it pauses are exact. */
  readonly random?: RandomSource;
  /** Whether another attempt can help after this error; by default it always can. */
  readonly shouldRetry?: (error: unknown) => boolean;
  readonly signal: AbortSignal;
}

/**
 * Calls `attempt` (with 1, 2, …) until it succeeds, at most `attempts` times, with pauses that double.
 * Rejects with the last attempt's own error, or with the signal's reason if it aborts before or between attempts;
 * an attempt that is running must heed the signal itself, and none starts after the abort.
 */
export async function retry<T>(attempt: (n: number) => Promise<T>, options: RetryOptions): Promise<T> {
  const { attempts, clock, signal, shouldRetry } = options;
  if (!(attempts >= 1)) throw new RangeError(`attempts must be at least 1, not ${attempts}`);
  for (let n = 1; ; n += 1) {
    signal.throwIfAborted();
    try {
      return await attempt(n);
    } catch (error) {
      if (n >= attempts || signal.aborted || shouldRetry?.(error) === false) throw error;
    }
    await clock.sleep(pauseMs(n, options), { signal });
  }
}

function pauseMs(n: number, { baseMs, maxMs, random }: RetryOptions): number {
  const fullMs = Math.min(maxMs, baseMs * 2 ** (n - 1));
  return random === undefined ? fullMs : fullMs * (0.5 + randomFraction(random) / 2);
}
