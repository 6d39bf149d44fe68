import type { EventDraft, OperationView } from "@kiln/protocol";
import type { Clock } from "@kiln/std";
import { OPERATION_LIMITS } from "./limits.ts";

interface End {
  readonly view: OperationView;
  readonly event: EventDraft | null;
}

/** Ends of operations that a full disk did not take. They hold for whoever asks, and are written down once there is room. */
export class UnwrittenEnds {
  readonly #ends = new Map<string, End>();
  readonly #write: (end: End) => void;
  readonly #clock: Clock;
  readonly #stopping: AbortSignal;
  #isTrying = false;

  constructor(parts: { readonly write: (end: End) => void; readonly clock: Clock; readonly stopping: AbortSignal }) {
    this.#write = parts.write;
    this.#clock = parts.clock;
    this.#stopping = parts.stopping;
  }

  get(id: string): OperationView | null {
    return this.#ends.get(id)?.view ?? null;
  }

  add(end: End): void {
    this.#ends.set(end.view.id, end);
    if (!this.#isTrying) void this.#try();
  }

  /** Tries once; what still finds no room stays. */
  flush(): void {
    for (const [id, end] of this.#ends) {
      try {
        this.#write(end);
      } catch {
        return; // it was told when the end came, and the next one meets the same disk
      }
      this.#ends.delete(id);
    }
  }

  async #try(): Promise<void> {
    this.#isTrying = true;
    while (this.#ends.size > 0) {
      const isOver = await this.#clock.sleep(OPERATION_LIMITS.unwrittenMs, { signal: this.#stopping }).then(
        () => false,
        () => true,
      );
      if (isOver) return; // the next daemon calls them interrupted
      this.flush();
    }
    this.#isTrying = false;
  }
}
