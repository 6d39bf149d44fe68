import { Deferred } from "@kiln/std";
import type { Dispatcher } from "undici";

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** The body of an answer, to be read once. */
export interface Body extends AsyncIterable<Uint8Array> {
  /** Lets go of the rest, and of the connection with it. May be called at any time. */
  destroy(): void;
}

/** The head of an answer with its body unread. */
export interface RawAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Body;
}

/** Bytes of a body that wait to be read before the connection is told to pause. */
const WAITING_BYTES = 256 * 1024;

/**
 * Sends a request and resolves with the head of its answer. What arrived before a connection broke is read before the
 * break is thrown, however late the reader is: whoever goes on by a range asks for no byte twice, and a server that
 * closes after its last byte has sent all of it. An abort drops what waits. Rejects with what undici says.
 */
export const exchange = (dispatcher: Dispatcher, request: Dispatcher.DispatchOptions, signal: AbortSignal): Promise<RawAnswer> => {
  const handler = new ExchangeHandler(signal);
  try {
    dispatcher.dispatch(request, handler);
  } catch (error) {
    handler.fail(error);
  }
  return handler.head;
};

/** A body of bytes that are there. */
export const bodyOf = (bytes: Uint8Array): Body => ({
  destroy: () => undefined,
  async *[Symbol.asyncIterator]() {
    yield bytes;
  },
});

class ExchangeHandler implements Dispatcher.DispatchHandler, Body {
  readonly #answer = new Deferred<RawAnswer>();
  readonly #signal: AbortSignal;
  readonly #onAbort = (): void => this.#stop(this.#signal.reason);
  #controller: Dispatcher.DispatchController | null = null;
  #queue: Uint8Array[] = [];
  #waitingBytes = 0;
  #end: { readonly error: Error | null } | null = null;
  #wake: Deferred<void> | null = null;

  constructor(signal: AbortSignal) {
    this.#signal = signal;
    if (signal.aborted) this.#stop(signal.reason);
    else signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  get head(): Promise<RawAnswer> {
    return this.#answer.promise;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#end !== null) controller.abort(asError(this.#end.error));
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: Headers): void {
    if (status >= 200) this.#answer.resolve({ status, headers, body: this });
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Uint8Array): void {
    if (this.#end !== null) return;
    this.#queue.push(chunk);
    this.#waitingBytes += chunk.length;
    if (this.#waitingBytes >= WAITING_BYTES) controller.pause();
    this.#wake?.resolve();
  }

  onResponseEnd(): void {
    this.#finish(null);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.fail(error);
  }

  /** What was received before stays to be read. */
  fail(error: unknown): void {
    this.#finish(asError(error));
  }

  destroy(): void {
    this.#stop(new LetGoError("the answer was let go of"));
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        const chunk = this.#queue.shift();
        if (chunk !== undefined) {
          this.#waitingBytes -= chunk.length;
          if (this.#waitingBytes < WAITING_BYTES / 2 && this.#controller?.paused === true) this.#controller.resume();
          yield chunk;
        } else if (this.#end !== null) {
          if (this.#end.error !== null) throw this.#end.error;
          return;
        } else {
          this.#wake = new Deferred();
          await this.#wake.promise;
        }
      }
    } finally {
      this.destroy();
    }
  }

  #stop(reason: unknown): void {
    if (this.#end !== null && this.#queue.length === 0) return;
    this.#queue = [];
    this.#waitingBytes = 0;
    const isOver = this.#end !== null;
    const error = asError(reason);
    this.#end = { error };
    this.#settle(error);
    if (!isOver) this.#controller?.abort(error);
  }

  #finish(error: Error | null): void {
    if (this.#end !== null) return;
    this.#end = { error };
    this.#settle(error);
  }

  #settle(error: Error | null): void {
    this.#signal.removeEventListener("abort", this.#onAbort);
    this.#answer.reject(error);
    this.#wake?.resolve();
  }
}

class LetGoError extends Error {
  override readonly name = "LetGoError";
}

const asError = (reason: unknown): Error => (reason instanceof Error ? reason : new LetGoError(String(reason)));
