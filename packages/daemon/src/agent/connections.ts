import type { Duplex } from "node:stream";
import { KilnError } from "@kiln/protocol/errors";
import { encodeFrame, encodeTlvs, FRAME_TYPES, OPS, PROTOCOLS, readOffset, TAGS, WIRE, type Frame } from "@kiln/protocol/wire";
import type { GuestConnection, GuestPort } from "../vms/agent.port.ts";
import { type Connection, portText, violation } from "./connection.ts";
import { DatagramConnection } from "./datagram-connection.ts";
import { AGENT_LIMITS } from "./limits.ts";
import type { Requests } from "./requests.ts";
import { StreamConnection } from "./stream-connection.ts";

const CREDIT_BYTES = 8;

/** The connections of one session. Every frame of the guest is checked; data of a number that is not open is a violation. */
export class Connections {
  readonly #channel: Duplex;
  readonly #requests: Requests;
  /** null: broken off from this side, and the guest has not answered yet; what comes until then was on its way. */
  readonly #open = new Map<number, Connection | null>();
  /** Who has something to send, in the order of their turns. */
  readonly #turns = new Map<number, Connection>();
  #closed = false;

  constructor(channel: Duplex, requests: Requests) {
    this.#channel = channel;
    this.#requests = requests;
  }

  /** `stream` is new in this session. Throws QUEUE_FULL. */
  dial(stream: number, to: GuestPort): GuestConnection {
    if (this.#open.size >= WIRE.connections)
      throw new KilnError("QUEUE_FULL", `${portText(to)} of the guest: ${WIRE.connections} connections are open already`);
    const link = {
      to,
      requestTurn: () => this.#requestTurn(stream, connection),
      sendCredit: (taken: number) => this.#send(FRAME_TYPES.CREDIT, stream, creditPayload(taken)),
      sendReset: () => this.#breakOff(stream),
      onOver: () => void this.#open.delete(stream),
    };
    const connection: Connection = to.protocol === "tcp" ? new StreamConnection(link) : new DatagramConnection(link);
    this.#open.set(stream, connection);
    void this.#request(stream, connection, to);
    return connection;
  }

  /** For DATA, CREDIT and RESET of a number that the session has given out. Throws GUEST_AGENT_PROTOCOL. */
  onFrame(frame: Frame): void {
    const { type, stream, payload } = frame;
    const connection = this.#open.get(stream);
    if (type === FRAME_TYPES.RESET) this.#onReset(stream);
    else if (connection === undefined && type === FRAME_TYPES.DATA)
      throw violation(`data of stream ${stream}, which is no open connection`);
    else if (type === FRAME_TYPES.DATA) connection?.onData(frame);
    else if (payload.length !== CREDIT_BYTES) throw violation("a credit of the wrong size");
    else connection?.onCredit(readOffset(new DataView(payload.buffer, payload.byteOffset, CREDIT_BYTES), 0));
  }

  close(error: Error): void {
    this.#closed = true;
    this.#turns.clear();
    for (const connection of this.#open.values()) connection?.fail(error);
    this.#open.clear();
  }

  async #request(stream: number, connection: Connection, to: GuestPort): Promise<void> {
    const payload = encodeTlvs([
      [TAGS.STREAM, stream],
      [TAGS.PROTOCOL, to.protocol === "tcp" ? PROTOCOLS.TCP : PROTOCOLS.UDP],
      [TAGS.PORT, to.port],
    ]);
    try {
      const action = `connection to ${portText(to)} of the guest`;
      await this.#requests.send({ op: OPS.DIAL, payload, action, timeoutMs: AGENT_LIMITS.dialMs, signal: connection.failed });
      connection.onOpened();
    } catch (error) {
      if (connection.failed.aborted) return; // its reader knows
      if (error instanceof KilnError && error.code === "GUEST_AGENT_TIMEOUT") this.#breakOff(stream);
      else this.#forget(stream); // it was refused: the guest knows nothing of it
      connection.fail(error instanceof Error ? error : violation(String(error)));
    }
  }

  #forget(stream: number): void {
    this.#open.delete(stream);
    this.#turns.delete(stream);
  }

  #breakOff(stream: number): void {
    this.#turns.delete(stream);
    if (!this.#open.has(stream)) return;
    this.#open.set(stream, null);
    this.#send(FRAME_TYPES.RESET, stream, new Uint8Array(0));
  }

  #onReset(stream: number): void {
    const connection = this.#open.get(stream);
    this.#forget(stream);
    if (connection === undefined || connection === null) return;
    connection.fail(new KilnError("INTERRUPTED", "the guest broke the connection off"));
  }

  #requestTurn(stream: number, connection: Connection): void {
    this.#turns.set(stream, connection);
    this.#pump();
  }

  /** A frame each by turns, while the channel takes them: what waits here waits behind nobody's request. */
  #pump(): void {
    while (!this.#closed && this.#channel.writableLength < AGENT_LIMITS.backlogBytes) {
      const [next] = this.#turns;
      if (next === undefined) return;
      const [stream, connection] = next;
      this.#turns.delete(stream);
      const data = connection.nextFrame();
      if (data === null) continue;
      this.#turns.set(stream, connection);
      this.#channel.write(encodeFrame({ type: FRAME_TYPES.DATA, stream, ...data }), () => this.#pump());
    }
  }

  #send(type: Frame["type"], stream: number, payload: Uint8Array): void {
    if (!this.#closed) this.#channel.write(encodeFrame({ type, flags: 0, stream, payload }));
  }
}

const creditPayload = (taken: number): Uint8Array => {
  const payload = new Uint8Array(CREDIT_BYTES);
  new DataView(payload.buffer).setBigUint64(0, BigInt(taken), true);
  return payload;
};
