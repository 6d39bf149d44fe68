import { randomBytes } from "node:crypto";
import { chmod, rename, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { KilnError } from "@kiln/protocol";
import { type Clock, retry, withDeadline } from "@kiln/std";
import { hasCode, longSocketPath, type SocketPath } from "@kiln/std/node";
import { VMM_LIMITS } from "../limits.ts";

export const QMP_SOCKET = "qmp.sock";
export const AGENT_SOCKET = "agent.sock";
/** A second monitor, which takes descriptors. */
export const HAND_SOCKET = "hand.sock";

/** A socket that listens for a VMM that is about to inherit it. Disposing closes this process's end only; the name stays. */
export interface BoundSocket extends AsyncDisposable {
  readonly descriptor: number;
}

/**
 * Binds `path` with mode 0600: under another name first, so that it never exists with wider permissions (I40) and so that
 * closing this end, which unlinks the name that was bound, leaves the final one.
 */
export const bindSocket = async (path: string): Promise<BoundSocket> => {
  const staged = join(path, "..", `.${randomBytes(4).toString("hex")}`);
  const reach = longSocketPath(staged);
  const server = createServer((socket) => socket.destroy());
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ path: reach.path }, resolve);
    });
    const descriptor = listeningDescriptor(server);
    await chmod(staged, 0o600);
    await rename(staged, path);
    return { descriptor, [Symbol.asyncDispose]: () => closeServer(server, reach) };
  } catch (cause) {
    await closeServer(server, reach);
    await rm(staged, { force: true });
    throw new KilnError("VMM_FAILED", `the socket ${path} could not be made`, { cause });
  }
};

/** Node names the descriptor of a listening socket only on the server's handle. */
const listeningDescriptor = (server: Server): number => {
  const handle: unknown = "_handle" in server ? server._handle : null;
  const descriptor: unknown = typeof handle === "object" && handle !== null && "fd" in handle ? handle.fd : null;
  if (typeof descriptor !== "number" || descriptor < 0)
    throw new KilnError("INTERNAL", "this Node does not tell the descriptor of a listening socket");
  return descriptor;
};

const closeServer = async (server: Server, reach: SocketPath): Promise<void> => {
  if (server.listening) await new Promise<void>((resolve) => server.close(() => resolve()));
  reach[Symbol.dispose]();
};

/** Whatever is left of a VM's sockets. Idempotent. */
export const removeSockets = async (directory: string): Promise<void> => {
  await Promise.all([QMP_SOCKET, AGENT_SOCKET, HAND_SOCKET].map((name) => rm(join(directory, name), { force: true })));
};

/** Connects to a VMM's socket; one that is taken by another client for a moment is tried again. Throws VMM_FAILED. */
export const connectSocket = async (path: string, options: { clock: Clock; signal: AbortSignal }): Promise<Socket> => {
  try {
    return await withDeadline(VMM_LIMITS.connectMs, (signal) => connectPatiently(path, { ...options, signal }), {
      ...options,
      onTimeout: () => new KilnError("VMM_FAILED", `${path} did not take the connection within ${VMM_LIMITS.connectMs} ms`),
    });
  } catch (cause) {
    if (options.signal.aborted || cause instanceof KilnError) throw cause;
    throw new KilnError("VMM_FAILED", `no VMM listens on ${path}`, { cause });
  }
};

/** EAGAIN: the queue of one connection is full, because QEMU has not yet noticed that the last client left. */
const connectPatiently = (path: string, { clock, signal }: { clock: Clock; signal: AbortSignal }): Promise<Socket> =>
  retry(() => connectOnce(path, signal), {
    ...{ attempts: Number.MAX_SAFE_INTEGER, baseMs: 2, maxMs: 50, clock, signal },
    shouldRetry: (error) => hasCode(error, "EAGAIN"),
  });

const connectOnce = async (path: string, signal: AbortSignal): Promise<Socket> => {
  signal.throwIfAborted();
  using reach = longSocketPath(path);
  const socket = connect({ path: reach.path });
  try {
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => reject(signal.reason);
      signal.addEventListener("abort", leave, { once: true });
      socket.once("error", reject);
      socket.once("connect", () => {
        signal.removeEventListener("abort", leave);
        socket.removeListener("error", reject);
        resolve();
      });
    });
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
};
