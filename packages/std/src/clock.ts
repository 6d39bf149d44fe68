/** Time as a port: the domain reads and waits through it, so that tests and simulations own time. */
export interface Clock {
  /** Milliseconds since 1970, UTC. It may jump: never subtract two of these to measure a duration. */
  now(): number;
  /** Milliseconds since an arbitrary moment; it never goes back. */
  monotonicMs(): number;
  /** Resolves after at least `ms` (0 or less: in the next turn; Infinity: never); rejects with the signal's reason when it aborts. */
  sleep(ms: number, options: { signal: AbortSignal }): Promise<void>;
}

/** The longest delay that setTimeout takes; a longer one fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The clock of the machine. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: async (ms, { signal }) => {
    let leftMs = ms;
    do {
      const partMs = Math.min(leftMs, LONGEST_TIMER_MS);
      await sleepPart(partMs, signal);
      leftMs -= partMs;
    } while (leftMs > 0);
  },
};

function sleepPart(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason);
      return;
    }
    const leave = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", leave);
      resolve();
    }, ms);
    signal.addEventListener("abort", leave, { once: true });
  });
}
