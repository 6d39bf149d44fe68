import { KilnError } from "@kiln/protocol/errors";
import {
  encodeSplit,
  FRAME_TYPES,
  parseTlvs,
  Reassembly,
  WIRE,
  WIRE_ERRORS,
  type Frame,
  type Op,
  type TlvFields,
} from "@kiln/protocol/wire";
import { abortable, Deferred, withDeadline, type Clock } from "@kiln/std";
import { refusal } from "./refusals.ts";

interface Pending {
  readonly action: string;
  readonly answer: Deferred<TlvFields>;
  /** Runs before the frame after the reply is looked at. */
  readonly onReply: (fields: TlvFields) => void;
}

export interface RequestOptions {
  readonly op: Op;
  readonly payload: Uint8Array;
  /** For errors: "exec web of VM 0123". */
  readonly action: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly onReply?: (fields: TlvFields) => void;
}

/** The requests of one session that wait for their replies. */
export class Requests {
  readonly #write: (bytes: Uint8Array) => void;
  readonly #clock: Clock;
  readonly #pending = new Map<number, Pending>();
  readonly #parts = new Reassembly(WIRE.requestBytes);
  #nextId = 1;
  #closed: Error | null = null;

  constructor(clock: Clock, write: (bytes: Uint8Array) => void) {
    this.#clock = clock;
    this.#write = write;
  }

  /** Throws GUEST_AGENT_TIMEOUT, GUEST_AGENT_PROTOCOL, the guest's typed refusal, or the signal's reason. A late reply is ignored. */
  async send(options: RequestOptions): Promise<TlvFields> {
    options.signal.throwIfAborted();
    if (this.#closed !== null) throw this.#closed;
    const id = this.#nextId++;
    const pending: Pending = { action: options.action, answer: new Deferred(), onReply: options.onReply ?? (() => undefined) };
    this.#pending.set(id, pending);
    for (const part of encodeSplit({ type: FRAME_TYPES.REQUEST, flags: options.op, stream: id, payload: options.payload }))
      this.#write(part);
    try {
      return await withDeadline(options.timeoutMs, (signal) => abortable(pending.answer.promise, signal), {
        signal: options.signal,
        clock: this.#clock,
        onTimeout: () => new KilnError("GUEST_AGENT_TIMEOUT", `${options.action}: the guest did not answer within ${options.timeoutMs} ms`),
      });
    } finally {
      this.#pending.delete(id);
    }
  }

  /** Throws GUEST_AGENT_PROTOCOL for a reply that cannot be. */
  onReply(part: Frame): void {
    const frame = this.#parts.push(part);
    if (frame === null) return;
    if (frame.stream === 0 || frame.stream >= this.#nextId)
      throw new KilnError("GUEST_AGENT_PROTOCOL", `the agent answered a request ${frame.stream} that was never made`);
    const pending = this.#pending.get(frame.stream);
    if (pending === undefined) return;
    // a reply that cannot be read throws with its request still waiting: the session's end rejects it
    const fields = parseTlvs(frame.payload);
    if (frame.flags === WIRE_ERRORS.OK) {
      pending.onReply(fields);
      pending.answer.resolve(fields);
    } else {
      pending.answer.reject(refusal(frame.flags, fields, pending.action));
    }
    this.#pending.delete(frame.stream);
  }

  /** Rejects all that wait and all that come. */
  close(error: Error): void {
    this.#closed ??= error;
    for (const pending of this.#pending.values()) pending.answer.reject(error);
    this.#pending.clear();
  }
}
