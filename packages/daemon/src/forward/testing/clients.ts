/** Clients of published ports, as any program of the host is one. */
import assert from "node:assert/strict";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { networkInterfaces } from "node:os";

/** Usually some milliseconds; a busy machine is slow and not wrong. */
const PATIENCE_MS = 60_000;

export const dialHost = async (port: number, host = "127.0.0.1"): Promise<Socket> => {
  const socket = connect({ port, host, allowHalfOpen: true });
  await once(socket, "connect");
  socket.setTimeout(PATIENCE_MS, () => socket.destroy(new Error(`nothing came from port ${port}`)));
  return socket;
};

/** Sends bytes and their end; what comes back, up to its end. Rejects with ECONNREFUSED or ECONNRESET as any client sees them. */
export const talk = async (port: number, bytes: string | Uint8Array, host = "127.0.0.1"): Promise<Buffer> => {
  const socket = await dialHost(port, host);
  socket.end(bytes);
  const parts: Buffer[] = [];
  for await (const part of socket) parts.push(part as Buffer);
  return Buffer.concat(parts);
};

/** How a connection that is open ends: an errno, or null for an orderly end. */
export const endOf = async (socket: Socket): Promise<string | null> => {
  let code: string | null = null;
  socket.on("error", (error) => (code = "code" in error ? String(error.code) : error.message));
  socket.once("end", () => socket.end());
  socket.resume();
  if (!socket.closed) await new Promise((resolve) => socket.once("close", resolve));
  return code;
};

/** For tests of IPv6: what a machine without it lacks. */
export const noIpv6 = (): string | false =>
  Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === "::1")) ? false : "this machine has no ::1";

export const isFree = async (port: number, host = "127.0.0.1"): Promise<boolean> => {
  const server = createServer();
  server.listen({ port, host });
  try {
    await once(server, "listening");
  } catch (error) {
    assert.equal(error instanceof Error && "code" in error && error.code, "EADDRINUSE");
    return false;
  }
  await new Promise((resolve) => server.close(resolve));
  return true;
};

/** A port that is free now, and in this test's own hands until it is disposed of. */
export const holdPort = async (): Promise<AsyncDisposable & { readonly port: number }> => {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(address !== null && typeof address === "object");
  return {
    port: address.port,
    [Symbol.asyncDispose]: async () => {
      await new Promise((resolve) => server.close(resolve));
    },
  };
};

/** One UDP client with a socket of its own. */
export class UdpClient implements Disposable {
  readonly #socket: UdpSocket = createSocket("udp4");
  readonly #port: number;

  constructor(port: number) {
    this.#port = port;
  }

  /** The answer to one datagram. */
  async ask(bytes: Uint8Array, patienceMs: number = PATIENCE_MS): Promise<Buffer> {
    const answer = once(this.#socket, "message", { signal: AbortSignal.timeout(patienceMs) });
    this.send(bytes);
    const [message] = (await answer) as [Buffer];
    return message;
  }

  send(bytes: Uint8Array): void {
    this.#socket.send(bytes, this.#port, "127.0.0.1");
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}
