import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import type { GuestConnection } from "../vms/agent.port.ts";
import type { DialGuest, OpenPort } from "../vms/forward.port.ts";
import type { HostAddress } from "../vms/ports.ts";
import { FORWARD_LIMITS } from "./limits.ts";
import { bindError } from "./refusals.ts";

/** Listens for clients and joins each to a connection into the guest. Each direction ends by itself; what breaks on one side is reset on the other. */
export class TcpPort implements OpenPort {
  readonly hostPort: number;
  readonly #server: Server;
  readonly #clients = new Map<Socket, Promise<void>>();

  private constructor(server: Server, dial: DialGuest) {
    const address = server.address();
    this.hostPort = address === null || typeof address === "string" ? 0 : address.port;
    this.#server = server;
    server.on("connection", (client: Socket) => this.#serve(client, dial));
  }

  /** Throws what bindError makes of the host's refusal. */
  static async open(at: HostAddress, dial: DialGuest): Promise<TcpPort> {
    const { clients, keepAliveMs } = FORWARD_LIMITS;
    const server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: keepAliveMs });
    server.maxConnections = clients;
    try {
      server.listen({ host: at.hostIp, port: at.hostPort, ipv6Only: at.hostIp.includes(":"), exclusive: true });
      await once(server, "listening");
    } catch (error) {
      throw bindError(at, error);
    }
    server.on("error", () => undefined); // of one client that could not be accepted; it has been told by its own side
    return new TcpPort(server, dial);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const client of this.#clients.keys()) client.resetAndDestroy();
    await Promise.all([closed, ...this.#clients.values()]);
  }

  #serve(client: Socket, dial: DialGuest): void {
    client.on("error", () => undefined); // its close follows
    const served = serve(client, dial).finally(() => this.#clients.delete(client));
    this.#clients.set(client, served);
  }
}

/** Until both directions have ended, or something broke. Never rejects. */
const serve = async (client: Socket, dial: DialGuest): Promise<void> => {
  const gone = new AbortController();
  client.once("close", () => gone.abort());
  try {
    using guest = await dial({ signal: gone.signal });
    const leave = (): void => guest[Symbol.dispose]();
    if (gone.signal.aborted) return;
    gone.signal.addEventListener("abort", leave);
    await joined(client, guest);
  } catch {
    // whoever is at the other end sees it as it is with any server: a reset
    client.resetAndDestroy();
  }
};

/** The first that breaks breaks both. */
const joined = async (client: Socket, guest: GuestConnection): Promise<void> => {
  const ways = [toGuest(client, guest), toClient(guest, client)];
  try {
    await Promise.all(ways);
  } catch (error) {
    guest[Symbol.dispose]();
    client.resetAndDestroy();
    await Promise.allSettled(ways);
    throw error;
  }
};

const toGuest = async (client: Socket, guest: GuestConnection): Promise<void> => {
  // the default would destroy the client at the end of what it sends
  for await (const bytes of client.iterator({ destroyOnReturn: false })) await guest.write(bytes as Buffer);
  guest.end();
};

const toClient = async (guest: GuestConnection, client: Socket): Promise<void> => {
  for (let bytes = await guest.read(); bytes !== null; bytes = await guest.read()) await written(client, bytes);
  client.end();
};

/** Resolves when the kernel has taken them: nothing piles up for a client that does not read. */
const written = (client: Socket, bytes: Uint8Array): Promise<void> =>
  new Promise((resolve, reject) => void client.write(bytes, (error) => (error ? reject(error) : resolve())));
