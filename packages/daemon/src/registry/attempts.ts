import { type Clock, randomFraction, type RandomSource } from "@kiln/std";
import { type Again, ExchangeError } from "./exchange-error.ts";
import type { RegistryLimits } from "./limits.ts";

export interface AttemptParts {
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly limits: RegistryLimits;
}

/** The pause before the next try after the n-th failure without progress: doubling, and drawn, so that many do not come back at once. */
export const pauseMs = (again: Again, n: number, { random, limits }: AttemptParts): number => {
  const drawn = 0.5 + randomFraction(random) / 2;
  // who asks for a time is not asked earlier
  if (typeof again === "number") return again + drawn * limits.pauseMs;
  return Math.min(limits.pauseMaxMs, limits.pauseMs * 2 ** (n - 1)) * drawn;
};

/** Tries until it succeeds, as long as the failures say that another try can help, and at most `attempts` times. */
export const persist = async <Result>(
  attempt: () => Promise<Result>,
  parts: AttemptParts & { readonly attempts: number; readonly signal: AbortSignal },
): Promise<Result> => {
  for (let n = 1; ; n += 1) {
    parts.signal.throwIfAborted();
    let again: Again = "never";
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof ExchangeError) || error.again === "never" || n >= parts.attempts) throw error;
      again = error.again;
    }
    await parts.clock.sleep(pauseMs(again, n, parts), { signal: parts.signal });
  }
};
