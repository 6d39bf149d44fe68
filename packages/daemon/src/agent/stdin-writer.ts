import { KilnError } from "@kiln/protocol/errors";
import { CHUNK_BYTES, WIRE } from "@kiln/protocol/wire";
import { abortable, Deferred } from "@kiln/std";

export interface StdinPosition {
  /** Bytes from the command's start that the guest has. */
  readonly received: number;
  /** Of these, the bytes that the command has. */
  readonly consumed: number;
  /** The command has closed its stdin, or never had one. */
  readonly closed: boolean;
}

/** Sends one command's stdin within the guest's window. Writes go out whole and in the order of the calls. */
export class StdinWriter {
  readonly #send: (offset: number, bytes: Uint8Array, end: boolean) => void;
  #position: StdinPosition;
  #sent: number;
  #moved = new Deferred<void>();
  #last: Promise<void> = Promise.resolve();
  #error: Error | null = null;

  constructor(start: StdinPosition, send: (offset: number, bytes: Uint8Array, end: boolean) => void) {
    this.#position = start;
    this.#sent = start.received;
    this.#send = send;
  }

  /** Takes the guest's word on its window. Throws GUEST_AGENT_PROTOCOL for one that cannot be. */
  move(to: StdinPosition): void {
    const from = this.#position;
    if (to.received < from.received || to.consumed < from.consumed || to.consumed > to.received || to.received > this.#sent) {
      throw new KilnError("GUEST_AGENT_PROTOCOL", "the agent's stdin window is impossible");
    }
    this.#position = to;
    this.#wakeAll();
  }

  fail(error: Error): void {
    this.#error ??= error;
    this.#wakeAll();
  }

  /** Resolves when the guest has the bytes, or will never read them. After an abort part of them may have gone. */
  write(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    return this.#enqueue(() => this.#writeAll(bytes, signal));
  }

  close(): Promise<void> {
    return this.#enqueue(async () => {
      if (this.#error !== null) throw this.#error;
      if (!this.#position.closed) this.#send(this.#sent, new Uint8Array(0), true);
    });
  }

  #enqueue(work: () => Promise<void>): Promise<void> {
    const result = this.#last.then(work);
    this.#last = result.then(
      () => undefined,
      () => undefined, // its own caller is told; the next write is not its concern
    );
    return result;
  }

  async #writeAll(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    let left = bytes;
    while (left.length > 0 && !this.#position.closed && this.#error === null) {
      const room = Math.min(this.#position.consumed + WIRE.stdinWindowBytes - this.#sent, CHUNK_BYTES);
      if (room <= 0) {
        await abortable(this.#moved.promise, signal);
        continue;
      }
      const chunk = left.subarray(0, room);
      left = left.subarray(chunk.length);
      const offset = this.#sent;
      this.#sent += chunk.length;
      this.#send(offset, chunk, false);
    }
    const end = this.#sent;
    while (this.#position.received < end && !this.#position.closed && this.#error === null) await abortable(this.#moved.promise, signal);
    if (this.#error !== null) throw this.#error;
  }

  #wakeAll(): void {
    this.#moved.resolve();
    this.#moved = new Deferred<void>();
  }
}
