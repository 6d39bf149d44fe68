import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { once } from "node:events";
import type { Clock } from "@kiln/std";
import type { GuestConnection } from "../vms/agent.port.ts";
import type { DialGuest, OpenPort } from "../vms/forward.port.ts";
import type { HostAddress } from "../vms/ports.ts";
import { FORWARD_LIMITS } from "./limits.ts";
import { bindError } from "./refusals.ts";

/** One client: its datagrams have a socket of their own in the guest, so that answers find their way back. */
interface Peer {
  readonly gone: AbortController;
  readonly served: Promise<void>;
  guest: GuestConnection | null;
  /** What came before the guest was there. */
  waiting: Buffer[];
  seenMs: number;
}

export interface UdpPortOptions {
  readonly clock: Clock;
  readonly peerIdleMs?: number;
  readonly sweepMs?: number;
}

/** Listens for datagrams and passes each on as it is; what finds no room is dropped. */
export class UdpPort implements OpenPort {
  readonly hostPort: number;
  readonly #socket: Socket;
  readonly #dial: DialGuest;
  readonly #clock: Clock;
  readonly #peerIdleMs: number;
  /** By address, the one that was silent longest first. */
  readonly #peers = new Map<string, Peer>();
  readonly #sweeping: NodeJS.Timeout;

  private constructor(socket: Socket, dial: DialGuest, options: UdpPortOptions) {
    this.hostPort = socket.address().port;
    this.#socket = socket;
    this.#dial = dial;
    this.#clock = options.clock;
    this.#peerIdleMs = options.peerIdleMs ?? FORWARD_LIMITS.peerIdleMs;
    socket.on("message", (bytes, from) => this.#onMessage(bytes, from));
    this.#sweeping = setInterval(() => this.#sweep(), options.sweepMs ?? FORWARD_LIMITS.sweepMs).unref();
  }

  /** Throws what bindError makes of the host's refusal. */
  static async open(at: HostAddress, dial: DialGuest, options: UdpPortOptions): Promise<UdpPort> {
    const isV6 = at.hostIp.includes(":");
    const socket = createSocket({ type: isV6 ? "udp6" : "udp4", ipv6Only: isV6 });
    try {
      socket.bind({ address: at.hostIp, port: at.hostPort, exclusive: true });
      await once(socket, "listening");
    } catch (error) {
      socket.close();
      throw bindError(at, error);
    }
    socket.on("error", () => undefined); // a datagram that could not be sent is lost, as any may be
    return new UdpPort(socket, dial, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#sweeping);
    const peers = [...this.#peers.values()];
    for (const peer of peers) peer.gone.abort();
    const closed = once(this.#socket, "close");
    this.#socket.close();
    await Promise.all([closed, ...peers.map(({ served }) => served)]);
  }

  #onMessage(bytes: Buffer, from: RemoteInfo): void {
    const key = `${from.address} ${from.port}`;
    const peer = this.#peers.get(key) ?? this.#admit(key, from);
    this.#touch(key, peer);
    if (peer.guest !== null) void peer.guest.write(bytes).catch(() => peer.gone.abort());
    else if (peer.waiting.length < FORWARD_LIMITS.waitingDatagrams) peer.waiting.push(bytes);
  }

  #admit(key: string, from: RemoteInfo): Peer {
    if (this.#peers.size >= FORWARD_LIMITS.peers) {
      const [silent] = this.#peers;
      if (silent !== undefined) this.#remove(...silent);
    }
    const gone = new AbortController();
    const begin = Promise.withResolvers<Peer>();
    const served = begin.promise.then((peer) => this.#serve(key, peer, from));
    const peer: Peer = { gone, served, guest: null, waiting: [], seenMs: 0 };
    begin.resolve(peer);
    return peer;
  }

  /** Never rejects: a peer whose guest breaks off is a new one with its next datagram. */
  async #serve(key: string, peer: Peer, to: RemoteInfo): Promise<void> {
    const { signal } = peer.gone;
    try {
      using guest = await this.#dial({ signal });
      signal.addEventListener("abort", () => guest[Symbol.dispose]());
      signal.throwIfAborted();
      peer.guest = guest;
      for (const bytes of peer.waiting.splice(0)) await guest.write(bytes);
      for (let bytes = await guest.read(); bytes !== null; bytes = await guest.read()) {
        this.#touch(key, peer);
        await sent(this.#socket, bytes, to);
      }
    } catch {
      peer.gone.abort(); // what it still sends is lost, as any datagram may be
    } finally {
      if (this.#peers.get(key) === peer) this.#peers.delete(key);
    }
  }

  #touch(key: string, peer: Peer): void {
    if (peer.gone.signal.aborted) return;
    peer.seenMs = this.#clock.monotonicMs();
    this.#peers.delete(key);
    this.#peers.set(key, peer);
  }

  #remove(key: string, peer: Peer): void {
    this.#peers.delete(key);
    peer.gone.abort();
  }

  #sweep(): void {
    const oldest = this.#clock.monotonicMs() - this.#peerIdleMs;
    for (const [key, peer] of this.#peers) {
      if (peer.seenMs > oldest) return;
      this.#remove(key, peer);
    }
  }
}

/** Resolves when it has gone, or cannot. */
const sent = (socket: Socket, bytes: Uint8Array, to: RemoteInfo): Promise<void> =>
  new Promise((resolve) => socket.send(bytes, to.port, to.address, () => resolve()));
