/**
 * Waits for `promise`, but no longer than until `signal` aborts; then rejects with the signal's reason.
 * What the promise stands for goes on: this gives up waiting, it stops nothing. A later rejection of the
 * promise is not reported as unhandled. No listener stays on the signal.
 */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const leave = () => reject(signal.reason);
    if (signal.aborted) leave();
    else signal.addEventListener("abort", leave, { once: true });
    promise.then(
      (value) => {
        signal.removeEventListener("abort", leave);
        resolve(value);
      },
      (error: unknown) => {
        signal.removeEventListener("abort", leave);
        reject(error);
      },
    );
  });
}
