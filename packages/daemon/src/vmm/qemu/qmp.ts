import type { Duplex } from "node:stream";
import { KilnError } from "@kiln/protocol";
import { abortable, type Clock, Deferred, withDeadline } from "@kiln/std";
import { VMM_LIMITS } from "../limits.ts";
import { parseQmpMessage, type QmpMessage } from "./qmp-message.ts";

export interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

interface Pending {
  readonly command: string;
  readonly answer: Deferred<unknown>;
}

const NEWLINE = 0x0a;

/**
 * A client of QEMU's monitor. Commands may overlap: replies find theirs by id. What is not QMP, a line without end
 * and an answer that nobody asked for end the connection, and with it every command that waits.
 */
export class QmpClient {
  /** Settles when the connection is gone; never rejects. */
  readonly closed: Promise<void>;
  readonly #socket: Duplex;
  readonly #clock: Clock;
  readonly #onEvent: (event: QmpEvent) => void;
  readonly #pending = new Map<number, Pending>();
  readonly #greeting = new Deferred<void>();
  readonly #closed = new Deferred<void>();
  #chunks: Buffer[] = [];
  #bufferedBytes = 0;
  #lastId = 0;
  #failure: KilnError | null = null;

  private constructor(socket: Duplex, clock: Clock, onEvent: (event: QmpEvent) => void) {
    this.#socket = socket;
    this.#clock = clock;
    this.#onEvent = onEvent;
    this.closed = this.#closed.promise;
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("error", (cause) => this.#fail(new KilnError("VMM_FAILED", `QEMU's monitor: ${cause.message}`, { cause })));
    socket.on("close", () => {
      this.#fail(new KilnError("VMM_FAILED", "QEMU closed its monitor"));
      this.#closed.resolve();
    });
  }

  /** Takes over a connected stream, waits for the greeting and leaves the negotiation mode. Events come from then on. */
  static async open(
    socket: Duplex,
    options: { clock: Clock; signal: AbortSignal; onEvent: (event: QmpEvent) => void },
  ): Promise<QmpClient> {
    const client = new QmpClient(socket, options.clock, options.onEvent);
    try {
      await client.#bounded("its greeting", VMM_LIMITS.greetingMs, { signal: options.signal, answer: client.#greeting.promise });
      await client.run("qmp_capabilities", {}, options);
      return client;
    } catch (error) {
      client.close();
      throw error;
    }
  }

  /** Runs one command. Throws VMM_FAILED with QEMU's own class and words. An abort gives up waiting; the command may still run. */
  async run(command: string, parameters: Readonly<Record<string, unknown>>, options: { signal: AbortSignal }): Promise<unknown> {
    options.signal.throwIfAborted();
    if (this.#failure !== null) throw this.#failure;
    this.#lastId += 1;
    const id = this.#lastId;
    const answer = new Deferred<unknown>();
    this.#pending.set(id, { command, answer });
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: parameters, id })}\n`);
    return this.#bounded(command, VMM_LIMITS.qmpReplyMs, { signal: options.signal, answer: answer.promise });
  }

  close(): void {
    this.#fail(new KilnError("VMM_FAILED", "the connection to QEMU's monitor was closed"));
  }

  /** The entry of an abandoned command stays until its late answer: ids are never used again. */
  #bounded<T>(what: string, limitMs: number, { signal, answer }: { signal: AbortSignal; answer: Promise<T> }): Promise<T> {
    answer.catch(() => undefined);
    return withDeadline(limitMs, (bounded) => abortable(answer, bounded), {
      ...{ signal, clock: this.#clock },
      onTimeout: () => new KilnError("VMM_FAILED", `QEMU's monitor did not answer ${what} within ${limitMs} ms`),
    });
  }

  #take(chunk: Buffer): void {
    let rest = chunk;
    for (let end = rest.indexOf(NEWLINE); end >= 0 && this.#failure === null; end = rest.indexOf(NEWLINE)) {
      const line = Buffer.concat([...this.#chunks, rest.subarray(0, end)]).toString("utf8");
      this.#chunks = [];
      this.#bufferedBytes = 0;
      rest = rest.subarray(end + 1);
      if (line.trim() !== "") this.#takeLine(line);
    }
    this.#chunks.push(rest);
    this.#bufferedBytes += rest.byteLength;
    if (this.#bufferedBytes > VMM_LIMITS.qmpLineBytes) this.#fail(new KilnError("VMM_FAILED", "QEMU's monitor sent a line without end"));
  }

  #takeLine(line: string): void {
    try {
      this.#dispatch(parseQmpMessage(line));
    } catch (cause) {
      this.#fail(new KilnError("VMM_FAILED", `QEMU's monitor sent what is not QMP: ${JSON.stringify(line.slice(0, 200))}`, { cause }));
    }
  }

  #dispatch(message: QmpMessage): void {
    switch (message.kind) {
      case "greeting":
        return this.#greeting.resolve();
      case "event":
        return this.#onEvent({ name: message.name, data: message.data });
      case "reply":
        return this.#settle(message.id).answer.resolve(message.value);
      case "error": {
        const { command, answer } = this.#settle(message.id);
        return answer.reject(new KilnError("VMM_FAILED", `QEMU refused ${command}: ${message.desc} (${message.class})`));
      }
    }
  }

  #settle(id: number | null): Pending {
    const pending = id === null ? undefined : this.#pending.get(id);
    if (id === null || pending === undefined) throw new KilnError("VMM_FAILED", `an answer to command ${id}, which nobody gave`);
    this.#pending.delete(id);
    return pending;
  }

  #fail(failure: KilnError): void {
    if (this.#failure !== null) return;
    this.#failure = failure;
    this.#greeting.promise.catch(() => undefined);
    this.#greeting.reject(failure);
    for (const { answer } of this.#pending.values()) answer.reject(failure);
    this.#pending.clear();
    this.#chunks = [];
    this.#socket.destroy();
  }
}
