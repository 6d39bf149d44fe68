import { Reassembly, WIRE, type Frame } from "@kiln/protocol/wire";
import { Connection, type OutgoingData, violation } from "./connection.ts";
import { AGENT_LIMITS } from "./limits.ts";

/** Datagrams of one peer. What finds no room in either direction is dropped; it ends by disposal only. */
export class DatagramConnection extends Connection {
  readonly #parts = new Reassembly(WIRE.datagramBytes);
  #received: Uint8Array[] = [];
  #outgoing: Uint8Array[] = [];
  /** Bytes of the first outgoing datagram that have gone. */
  #at = 0;

  async write(bytes: Uint8Array): Promise<void> {
    if (this.error !== null) throw this.error;
    if (bytes.length > WIRE.datagramBytes || this.#outgoing.length >= AGENT_LIMITS.queuedDatagrams) return;
    this.#outgoing.push(bytes);
    this.link.requestTurn();
  }

  end(): void {
    // a peer of datagrams has no end
  }

  onData(part: Frame): void {
    if ((part.flags & ~WIRE.moreFlag) !== 0) throw violation("a datagram with an end");
    const whole = this.#parts.push(part);
    if (whole === null || this.#received.length >= AGENT_LIMITS.queuedDatagrams) return;
    this.#received.push(whole.payload);
    this.wake();
  }

  onCredit(): void {
    throw violation("credit for datagrams");
  }

  nextFrame(): OutgoingData | null {
    const [first] = this.#outgoing;
    if (first === undefined) return null;
    const payload = first.subarray(this.#at, this.#at + WIRE.payloadBytes);
    this.#at += payload.length;
    if (this.#at < first.length) return { flags: WIRE.moreFlag, payload };
    this.#at = 0;
    this.#outgoing.shift();
    return { flags: 0, payload };
  }

  protected takeReceived(): Uint8Array | null {
    return this.#received.shift() ?? null;
  }

  protected hasEnded(): boolean {
    return false;
  }

  protected isOver(): boolean {
    return false;
  }

  protected forget(): void {
    this.#received = [];
    this.#outgoing = [];
  }
}
