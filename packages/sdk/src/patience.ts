import type { Clock } from "@kiln/std";

/** How long one puts up with a daemon that does not answer, counted from the first failure after an answer. */
export class Patience {
  readonly #clock: Pick<Clock, "monotonicMs">;
  #failingSinceMs: number | null = null;

  constructor(clock: Pick<Clock, "monotonicMs">) {
    this.#clock = clock;
  }

  answered(): void {
    this.#failingSinceMs = null;
  }

  /** Called at each failure: whether it has lasted too long. */
  isOver(patienceMs: number): boolean {
    this.#failingSinceMs ??= this.#clock.monotonicMs();
    return this.#clock.monotonicMs() - this.#failingSinceMs > patienceMs;
  }
}
