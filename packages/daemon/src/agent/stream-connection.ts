import { KilnError } from "@kiln/protocol/errors";
import { DATA_END, WIRE, type Frame } from "@kiln/protocol/wire";
import { Deferred } from "@kiln/std";
import { Connection, type OutgoingData, portText, violation } from "./connection.ts";
import { JoinedBytes } from "./joined-bytes.ts";

/** Credit is given in steps: fewer frames, and the sender always has three quarters of the window. */
const CREDIT_STEP_BYTES = WIRE.connectionWindowBytes / 4;
const NOTHING = new Uint8Array(0);

/** A TCP connection: both directions within windows of `connectionWindowBytes`, each with an end of its own. */
export class StreamConnection extends Connection {
  readonly #received = new JoinedBytes(WIRE.connectionWindowBytes);
  /** Bytes that came, that were read, and that the guest knows to be read. */
  #came = 0;
  #taken = 0;
  #told = 0;
  #hasGuestEnded = false;
  #outgoing: Uint8Array = NOTHING;
  #written: Deferred<void> | null = null;
  #sent = 0;
  #credit = 0;
  #isEnding = false;
  #isEndSent = false;

  async write(bytes: Uint8Array): Promise<void> {
    if (this.error !== null) throw this.error;
    if (this.#isEnding || this.#written !== null)
      throw new KilnError("INTERNAL", `a write to ${portText(this.link.to)} comes after its end, or before another is done`);
    if (bytes.length === 0) return;
    this.#outgoing = bytes;
    const written = new Deferred<void>();
    this.#written = written;
    this.link.requestTurn();
    await written.promise;
  }

  end(): void {
    if (this.#isEnding || this.error !== null) return;
    this.#isEnding = true;
    this.link.requestTurn();
  }

  onData({ flags, payload }: Frame): void {
    if (this.#hasGuestEnded) throw violation(`data after the end of a connection to ${portText(this.link.to)}`);
    const isEnd = flags === DATA_END;
    if ((flags !== 0 && !isEnd) || (payload.length === 0 && !isEnd)) throw violation("data that is none");
    this.#came += payload.length;
    if (this.#came - this.#told > WIRE.connectionWindowBytes)
      throw violation(`a connection to ${portText(this.link.to)} exceeds its window`);
    this.#received.push(payload);
    this.#hasGuestEnded = isEnd;
    this.wake();
    if (this.isOver()) this.link.onOver();
  }

  onCredit(taken: number): void {
    if (taken < this.#credit || taken > this.#sent) throw violation("an impossible credit");
    this.#credit = taken;
    this.link.requestTurn();
  }

  nextFrame(): OutgoingData | null {
    if (this.error !== null || this.#isEndSent) return null;
    const room = WIRE.connectionWindowBytes - (this.#sent - this.#credit);
    const payload = this.#outgoing.subarray(0, Math.min(room, WIRE.payloadBytes));
    const isEnd = this.#isEnding && payload.length === this.#outgoing.length;
    if (payload.length === 0 && !isEnd) return null;
    this.#outgoing = this.#outgoing.subarray(payload.length);
    this.#sent += payload.length;
    this.#isEndSent = isEnd;
    if (this.#outgoing.length === 0) this.#settleWrite();
    if (this.isOver()) this.link.onOver();
    return { flags: isEnd ? DATA_END : 0, payload };
  }

  protected takeReceived(): Uint8Array | null {
    const bytes = this.#received.take();
    if (bytes === null) return null;
    this.#taken += bytes.length;
    if (!this.#hasGuestEnded && this.#taken - this.#told >= CREDIT_STEP_BYTES) {
      this.#told = this.#taken;
      this.link.sendCredit(this.#taken);
    }
    return bytes;
  }

  protected hasEnded(): boolean {
    return this.#hasGuestEnded;
  }

  protected isOver(): boolean {
    return this.#hasGuestEnded && this.#isEndSent;
  }

  protected forget(): void {
    this.#received.take();
    this.#outgoing = NOTHING;
    this.#settleWrite();
  }

  #settleWrite(): void {
    if (this.error === null) this.#written?.resolve();
    else this.#written?.reject(this.error);
    this.#written = null;
  }
}
