import type { Clock } from "@kiln/std";

/** A caller that sends blobs names them within this time, or sends them again. */
const UPLOAD_MS = 10 * 60_000;

/** Whether blobs may be on their way to a name; unreferenced ones are collected only while none are. */
export class ContentLeases {
  readonly #clock: Clock;
  #active = 0;
  #uploadUntil = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Held by work that ends by naming what it stored. */
  begin(): Disposable {
    this.#active += 1;
    let ended = false;
    return {
      [Symbol.dispose]: () => {
        if (!ended) this.#active -= 1;
        ended = true;
      },
    };
  }

  /** A caller is sending blobs over several requests. */
  touchUpload(): void {
    this.#uploadUntil = this.#clock.monotonicMs() + UPLOAD_MS;
  }

  get isIdle(): boolean {
    return this.#active === 0 && this.#clock.monotonicMs() >= this.#uploadUntil;
  }
}
