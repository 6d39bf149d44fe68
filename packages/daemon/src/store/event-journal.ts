import type { EventDraft } from "@kiln/protocol";
import type { Clock } from "@kiln/std";
import type { Run } from "./database.ts";
import { STORE_LIMITS } from "./limits.ts";

/**
 * Writes down what happened, in the transaction of the change that it tells of: neither is there without the other,
 * whenever the daemon dies. Who reads is woken and comes with a cursor, so that nobody's events are kept in memory.
 */
export class EventJournal {
  readonly #clock: Pick<Clock, "now">;
  readonly #listeners = new Set<() => void>();
  #isTold = false;
  #untilTrim = 0;
  #version = 0;

  constructor(clock: Pick<Clock, "now">) {
    this.#clock = clock;
  }

  /** Another after each change of what is kept. */
  get version(): number {
    return this.#version;
  }

  append(run: Run, { type, subject, data }: EventDraft): void {
    const time = new Date(this.#clock.now()).toISOString();
    run("INSERT INTO events (time, type, subject, data) VALUES (?, ?, ?, ?)", time, type, subject, JSON.stringify(data, cut));
    this.#version += 1;
    this.#untilTrim -= 1;
    if (this.#untilTrim < 0) {
      this.#untilTrim = STORE_LIMITS.trimEvery;
      run("DELETE FROM events WHERE seq <= (SELECT MAX(seq) FROM events) - ?", STORE_LIMITS.events);
    }
    this.#tell();
  }

  /** After the turn, and so after the transaction, which is one turn. */
  #tell(): void {
    if (this.#isTold) return;
    this.#isTold = true;
    queueMicrotask(() => {
      this.#isTold = false;
      for (const listener of this.#listeners) listener();
    });
  }

  /** `listener` hears that there is something new, once for all of a turn. */
  listen(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }
}

/** A JSON replacer: long words are cut. */
const cut = (_key: string, value: unknown): unknown =>
  typeof value === "string" && value.length > STORE_LIMITS.eventTextLength ? `${value.slice(0, STORE_LIMITS.eventTextLength)}…` : value;
