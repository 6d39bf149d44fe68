import { KilnError } from "@kiln/protocol/errors";
import type { Frame } from "@kiln/protocol/wire";
import { Deferred } from "@kiln/std";
import type { GuestConnection, GuestPort } from "../vms/agent.port.ts";

/** What a connection needs of its session. Sends are dropped once the session is closed. */
export interface ConnectionLink {
  readonly to: GuestPort;
  /** Has `nextFrame` called when it is this connection's turn. */
  requestTurn(): void;
  sendCredit(taken: number): void;
  /** The connection is broken off from this side; it may not have been opened yet. */
  sendReset(): void;
  /** Both directions have ended. */
  onOver(): void;
}

/** Whatever of it goes as one frame; `more`: it has another frame to send now. */
export interface OutgoingData {
  readonly flags: number;
  readonly payload: Uint8Array;
}

export const violation = (what: string): KilnError => new KilnError("GUEST_AGENT_PROTOCOL", `the agent broke the protocol: ${what}`);
export const portText = ({ protocol, port }: GuestPort): string => `port ${port}/${protocol}`;

/** What streams and datagrams have in common: how a connection opens, ends and fails. The session hands it frames. */
export abstract class Connection implements GuestConnection {
  protected readonly link: ConnectionLink;
  protected error: Error | null = null;
  readonly #opened = new Deferred<void>();
  readonly #failed = new AbortController();
  #arrived = new Deferred<void>();

  constructor(link: ConnectionLink) {
    this.link = link;
    this.#opened.promise.catch(() => undefined); // whoever reads or writes is told as well
  }

  get opened(): Promise<void> {
    return this.#opened.promise;
  }

  /** Aborts when the connection is broken off, from whichever side. */
  get failed(): AbortSignal {
    return this.#failed.signal;
  }

  async read(): Promise<Uint8Array | null> {
    for (;;) {
      const bytes = this.takeReceived();
      if (bytes !== null) return bytes;
      if (this.error !== null) throw this.error;
      if (this.hasEnded()) return null;
      await this.#arrived.promise;
    }
  }

  abstract write(bytes: Uint8Array): Promise<void>;
  abstract end(): void;
  /** Throws GUEST_AGENT_PROTOCOL. */
  abstract onData(frame: Frame): void;
  /** Throws GUEST_AGENT_PROTOCOL. */
  abstract onCredit(taken: number): void;
  /** What goes next, counted as sent; null where nothing may go. */
  abstract nextFrame(): OutgoingData | null;
  protected abstract takeReceived(): Uint8Array | null;
  /** Whether nothing more comes from the guest. */
  protected abstract hasEnded(): boolean;
  /** Whether both directions have ended. */
  protected abstract isOver(): boolean;
  protected abstract forget(): void;

  onOpened(): void {
    this.#opened.resolve();
  }

  [Symbol.dispose](): void {
    if (this.error !== null || this.isOver()) return;
    this.link.sendReset();
    this.fail(new KilnError("CANCELLED", `the connection to ${portText(this.link.to)} was closed`));
  }

  /** Nothing more comes or goes, and what was not read is lost. */
  fail(error: Error): void {
    if (this.error !== null) return;
    this.error = error;
    this.forget();
    this.#opened.reject(error);
    this.wake();
    this.#failed.abort(error);
  }

  protected wake(): void {
    this.#arrived.resolve();
    this.#arrived = new Deferred<void>();
  }
}
