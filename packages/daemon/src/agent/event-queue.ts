import { KilnError } from "@kiln/protocol/errors";
import { WIRE } from "@kiln/protocol/wire";
import { Deferred } from "@kiln/std";
import type { ExecEvent } from "../vms/agent.port.ts";
import { AGENT_LIMITS } from "./limits.ts";

type OutputEvent = Extract<ExecEvent, { readonly type: "output" }>;

/** The last queued output, which may still grow. */
interface Tail {
  readonly event: OutputEvent;
  /** Owned room of which `event.bytes` is the beginning; null while the bytes are a view of what was received. */
  readonly room: Uint8Array | null;
}

/**
 * Events between the session, which never waits, and one reader. The sender's window bounds the bytes;
 * small neighbours are merged, and past `queuedEvents` a push throws GUEST_AGENT_PROTOCOL.
 */
export class EventQueue {
  #events: ExecEvent[] = [];
  #tail: Tail | null = null;
  #ended = false;
  #error: Error | null = null;
  #wake: Deferred<void> | null = null;
  #iterated = false;

  push(event: ExecEvent): void {
    if (this.#ended) return;
    if (event.type !== "output" || !this.#merge(event)) {
      if (this.#events.length >= AGENT_LIMITS.queuedEvents)
        throw new KilnError("GUEST_AGENT_PROTOCOL", "the guest's output comes in too many pieces");
      this.#events.push(event);
      this.#tail = event.type === "output" ? { event, room: null } : null;
    }
    this.#wake?.resolve();
  }

  /** After what is queued the iteration ends, or throws `error`. Only the first end counts. */
  end(error: Error | null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#wake?.resolve();
  }

  /** One iteration per queue: a second one throws. */
  async *[Symbol.asyncIterator](): AsyncGenerator<ExecEvent, void, void> {
    if (this.#iterated) throw new KilnError("INTERNAL", "the events of an attachment are read twice");
    this.#iterated = true;
    while (true) {
      const events = this.#events;
      this.#events = [];
      this.#tail = null;
      yield* events;
      if (this.#events.length > 0) continue;
      if (this.#ended) break;
      this.#wake = new Deferred<void>();
      await this.#wake.promise;
    }
    if (this.#error !== null) throw this.#error;
  }

  #merge(event: OutputEvent): boolean {
    const tail = this.#tail;
    if (tail === null || tail.event.stream !== event.stream) return false;
    const length = tail.event.bytes.length;
    if (tail.event.offset + length !== event.offset || length + event.bytes.length > WIRE.payloadBytes) return false;
    const room = tail.room ?? new Uint8Array(WIRE.payloadBytes);
    if (tail.room === null) room.set(tail.event.bytes);
    room.set(event.bytes, length);
    const merged = { ...tail.event, bytes: room.subarray(0, length + event.bytes.length) };
    this.#events[this.#events.length - 1] = merged;
    this.#tail = { event: merged, room };
    return true;
  }
}
