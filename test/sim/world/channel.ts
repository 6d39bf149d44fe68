import { Duplex } from "node:stream";
import type { Life } from "../life.ts";

type Done = (error?: Error | null) => void;

/** One end of a socket whose bytes arrive when the scheduler says so, in order. Its process's end closes it for the other side. */
export class SimChannel extends Duplex {
  readonly #inner: Duplex;
  readonly #step: (label: string) => Promise<void>;
  #arrived: Uint8Array[] = [];
  #hasEnded = false;
  #isDelivering = false;

  /** `breaks`: whether the channel breaks off where something is sent. */
  constructor(inner: Duplex, options: { life: Life; step: (label: string) => Promise<void>; breaks: () => boolean }) {
    super();
    this.#inner = inner;
    this.#step = async (label) => {
      await options.step(label);
      if (options.breaks()) this.destroy(new Error("the simulated channel broke off"));
    };
    options.life.atEnd(() => inner.destroy());
    inner.on("data", (bytes: Uint8Array) => {
      this.#arrived.push(bytes);
      this.#deliver();
    });
    inner.on("close", () => {
      this.#hasEnded = true;
      this.#deliver();
    });
    inner.on("error", () => undefined); // its close says the same
  }

  #deliver(): void {
    if (this.#isDelivering) return;
    this.#isDelivering = true;
    void this.#deliverAll();
  }

  async #deliverAll(): Promise<void> {
    while (this.#arrived.length > 0) {
      await this.#step("guest.answers");
      const bytes = this.#arrived;
      this.#arrived = [];
      if (!this.destroyed) this.push(Buffer.concat(bytes));
    }
    this.#isDelivering = false;
    if (!this.#hasEnded) return;
    await this.#step("guest.closes");
    this.destroy();
  }

  override _read(): void {
    // what has arrived is pushed as it comes: the wire has windows of its own
  }

  override _write(bytes: Uint8Array, _encoding: string, done: Done): void {
    void this.#send(bytes, done);
  }

  async #send(bytes: Uint8Array, done: Done): Promise<void> {
    await this.#step("guest.hears");
    if (!this.#inner.destroyed) this.#inner.write(bytes);
    done();
  }

  override _final(done: Done): void {
    this.#inner.end();
    done();
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#inner.destroy();
    done(error);
  }
}
