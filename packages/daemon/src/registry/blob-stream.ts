import type { Digest } from "@kiln/protocol";
import type { Clock, Semaphore } from "@kiln/std";
import { type Answer, discardBody } from "./answer.ts";
import { type AttemptParts, pauseMs } from "./attempts.ts";
import { explainFailure } from "./connections.ts";
import type { Endpoint } from "./endpoint.ts";
import { addressText, ExchangeError } from "./exchange-error.ts";
import type { RegistryLimits } from "./limits.ts";

export interface BlobRequest {
  readonly digest: Digest;
  readonly size: number;
  /** Permits that a transfer holds while it runs, taken in this order; never while it pauses. */
  readonly permits: readonly Semaphore[];
  readonly onBytes: (received: number) => void;
  readonly signal: AbortSignal;
}

/**
 * A blob's bytes from one host, in order, over as many connections as it takes: one that is cut, stalls or crawls is
 * followed by another that goes on where it ended. Ends early or goes on too long only as the host's own bytes do; whoever
 * takes them in counts and hashes. Throws ExchangeError, or the signal's reason.
 */
export const streamBlob = async function* (endpoint: Endpoint, request: BlobRequest, parts: AttemptParts): AsyncGenerator<Uint8Array> {
  const transfer = new Transfer(endpoint, request, parts);
  const { limits, clock } = parts;
  let failures = 0;
  for (let n = 1; ; n += 1) {
    const before = transfer.received;
    const failure = yield* transfer.run();
    if (failure === null) return;
    const hasProgress = transfer.received - before >= limits.progressBytes;
    failures = hasProgress ? 1 : failures + 1;
    if (failure.again === "never" || failures >= limits.attempts || n >= limits.transferAttempts) throw failure;
    await clock.sleep(pauseMs(failure.again, failures, parts), { signal: request.signal });
  }
};

class Transfer {
  readonly #endpoint: Endpoint;
  readonly #request: BlobRequest;
  readonly #limits: RegistryLimits;
  readonly #clock: Clock;
  /** Whether the host has shown that it cannot go on in the middle of this blob. */
  #isRangeless = false;
  received = 0;

  constructor(endpoint: Endpoint, request: BlobRequest, { limits, clock }: AttemptParts) {
    this.#endpoint = endpoint;
    this.#request = request;
    this.#limits = limits;
    this.#clock = clock;
  }

  /** One connection's worth; what broke it off, or null at the blob's end. */
  async *run(): AsyncGenerator<Uint8Array, ExchangeError | null> {
    const { permits, signal } = this.#request;
    using held = new DisposableStack();
    for (const permit of permits) held.use(await permit.acquire({ signal }));
    try {
      yield* this.#receive();
      return null;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof ExchangeError) return error;
      throw error;
    }
  }

  async *#receive(): AsyncGenerator<Uint8Array> {
    const { size } = this.#request;
    // a blob that is there to its last byte, or that has none, is not asked for again
    if (this.received > 0 && this.received >= size) return;
    const answer = await this.#ask();
    let skip = answer.status === 200 ? this.received : 0;
    for await (const chunk of this.#chunks(answer)) {
      const fresh = chunk.subarray(Math.min(skip, chunk.length));
      skip -= chunk.length - fresh.length;
      if (fresh.length === 0) continue;
      this.received += fresh.length;
      this.#request.onBytes(this.received);
      yield fresh;
    }
    if (this.received >= size) return;
    throw new ExchangeError("CONTENT_SIZE_MISMATCH", `${this.#endpoint.name} ended after ${this.received} of ${size} bytes`, {
      again: "soon",
    });
  }

  /** From where it stands; from the start where the host cannot do that. */
  async #ask(): Promise<Answer> {
    const { digest, signal } = this.#request;
    const from = this.#isRangeless ? 0 : this.received;
    const range = from === 0 ? {} : { range: `bytes=${from}-` };
    const headers = { accept: "*/*", "accept-encoding": "identity", ...range };
    const accepted = from === 0 ? [200] : [200, 206, 416];
    const answer = await this.#endpoint.ask(
      { method: "GET", object: `blobs/${digest}`, headers, accepted, signal },
      { limits: this.#limits, clock: this.#clock, missing: "REGISTRY_FAILED" },
    );
    const wrong = this.#complaintAbout(answer, from);
    if (wrong === null) return answer;
    await discardBody(answer, this.#limits);
    if (answer.status !== 200) this.#isRangeless = true;
    throw wrong;
  }

  #complaintAbout(answer: Answer, from: number): ExchangeError | null {
    const { size } = this.#request;
    const where = addressText(answer.url);
    if (answer.status === 416) return new ExchangeError("REGISTRY_FAILED", `${where} cannot be gone on with at ${from}`, { again: "soon" });
    if (answer.status === 206) {
      const [, start, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(answer.header("content-range") ?? "") ?? [];
      if (Number(start) !== from)
        return new ExchangeError("REGISTRY_FAILED", `${where} sent another part than the one asked for`, { again: "soon" });
      return total === "*" || Number(total) === size ? null : this.#wrongSize(where, Number(total));
    }
    const announced = answer.header("content-length");
    return announced === null || Number(announced) === size ? null : this.#wrongSize(where, Number(announced));
  }

  #wrongSize(where: string, found: number): ExchangeError {
    return new ExchangeError("CONTENT_SIZE_MISMATCH", `${where} has ${found} bytes, the image says ${this.#request.size}`);
  }

  /** The body's pieces. Time counts while the network is waited for, not while the disk is. */
  async *#chunks(answer: Answer): AsyncGenerator<Uint8Array> {
    const { slowWindowMs, slowWindowBytes } = this.#limits;
    const iterator = answer.body[Symbol.asyncIterator]();
    let [waitedMs, bytes] = [0, 0];
    try {
      for (;;) {
        const askedMs = this.#clock.monotonicMs();
        const next = await nextChunk(iterator, answer.url);
        if (next === null) return;
        waitedMs += this.#clock.monotonicMs() - askedMs;
        bytes += next.length;
        yield next;
        if (waitedMs < slowWindowMs) continue;
        if (bytes < slowWindowBytes) {
          throw new ExchangeError(
            "REGISTRY_UNREACHABLE",
            `${answer.url.host} sends too slowly: ${bytes} bytes in ${Math.round(waitedMs / 1000)} s`,
            { again: "soon" },
          );
        }
        [waitedMs, bytes] = [0, 0];
      }
    } finally {
      answer.body.destroy();
    }
  }
}

const nextChunk = async (iterator: AsyncIterator<Uint8Array>, url: URL): Promise<Uint8Array | null> => {
  try {
    const next = await iterator.next();
    return next.done === true ? null : next.value;
  } catch (error) {
    throw explainFailure(error, url);
  }
};
