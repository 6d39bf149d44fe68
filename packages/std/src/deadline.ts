import type { Clock } from "./clock.ts";

export interface DeadlineOptions {
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** Makes the error of a missed deadline. */
  readonly onTimeout: () => Error;
}

/** Nobody sees it; one that `abort` makes itself costs more than the rest. */
const OVER = new Error("nobody waits for this deadline any more");

/**
 * Runs `run` with a signal that aborts after `ms` or when the caller's own signal aborts, and always waits
 * until `run` has stopped. Rejects with the error of `onTimeout` if the deadline passed and `run` failed
 * (its error becomes the cause if there is none), else as `run` does. A result that arrives in spite of the
 * deadline is returned, so that nothing that `run` made is lost.
 */
export async function withDeadline<T>(ms: number, run: (signal: AbortSignal) => Promise<T>, options: DeadlineOptions): Promise<T> {
  const { signal, clock, onTimeout } = options;
  signal.throwIfAborted();
  const inner = new AbortController();
  const finished = new AbortController();
  let timeout: Error | null = null;
  const forward = () => inner.abort(signal.reason);
  signal.addEventListener("abort", forward, { once: true });
  const timer = clock.sleep(ms, { signal: finished.signal }).then(
    () => {
      if (inner.signal.aborted) return;
      timeout = onTimeout();
      inner.abort(timeout);
    },
    (error: unknown) => {
      if (!finished.signal.aborted) inner.abort(error);
    },
  );
  try {
    return await run(inner.signal);
  } catch (error) {
    throw timeout === null ? error : explain(timeout, error);
  } finally {
    signal.removeEventListener("abort", forward);
    finished.abort(OVER);
    await timer;
  }
}

/**
 * A signal that aborts after `ms` on the clock, with an error as AbortSignal.timeout gives it. Disposal ends the timer; a
 * signal that has not aborted by then never does.
 */
export function signalAfter(ms: number, clock: Clock): { readonly signal: AbortSignal } & Disposable {
  const late = new AbortController();
  const over = new AbortController();
  clock.sleep(ms, { signal: over.signal }).then(
    () => late.abort(new DOMException(`${ms} ms have passed`, "TimeoutError")),
    (error: unknown) => {
      if (!over.signal.aborted) late.abort(error);
    },
  );
  return { signal: late.signal, [Symbol.dispose]: () => over.abort(OVER) };
}

function explain(timeout: Error, error: unknown): Error {
  if (error !== timeout) timeout.cause ??= error;
  return timeout;
}
