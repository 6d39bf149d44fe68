import type { IncomingMessage } from "node:http";
import { connect } from "node:net";
import { KilnError } from "@kiln/protocol/errors";
import { WebSocket, type RawData } from "ws";
import { problemOf } from "../api-client.ts";
import { SDK_LIMITS } from "../limits.ts";
import { MessageQueue } from "../message-queue.ts";
import type { TransportSocket } from "../transport.ts";

/** Messages that wait for their reader before the socket is paused, so that the daemon feels a slow reader. */
const HIGH_WATER_MESSAGES = 32;
const LOW_WATER_MESSAGES = 8;

export interface OpenWebSocket {
  /** What to connect with; at most 107 bytes. */
  readonly connectPath: string;
  /** The request's path and query. */
  readonly path: string;
  /** How errors name the socket. */
  readonly socketPath: string;
  readonly signal: AbortSignal;
}

/** Opens a WebSocket over a Unix socket. An answer that is no upgrade rejects with the daemon's problem. */
export const openWebSocket = ({ connectPath, path, socketPath, signal }: OpenWebSocket): Promise<TransportSocket> => {
  const socket = new WebSocket(`ws://kiln${path}`, {
    createConnection: () => connect(connectPath),
    perMessageDeflate: false,
    maxPayload: SDK_LIMITS.frameBytes,
  });
  const queue = new MessageQueue((depth) => {
    if (depth >= HIGH_WATER_MESSAGES) socket.pause();
    else if (depth <= LOW_WATER_MESSAGES && socket.isPaused) socket.resume();
  });
  return new Promise((resolve, reject) => {
    const leave = () => {
      socket.terminate();
      reject(signal.reason);
    };
    signal.addEventListener("abort", leave, { once: true });
    socket.on("message", (data, isBinary) => queue.push(isBinary ? bytesOf(data) : bytesOf(data).toString("utf8")));
    socket.on("error", reject);
    socket.on("close", () => {
      signal.removeEventListener("abort", leave);
      queue.end();
      reject(closed(socketPath));
    });
    socket.on("unexpected-response", (_request, response) => {
      refusalOf(response, `GET ${path}`).then(reject, reject);
    });
    socket.on("open", () =>
      resolve({ send: (message) => sendOver(socket, message, socketPath), messages: queue, close: () => closeGently(socket) }),
    );
  });
};

/** A daemon that does not answer the closing handshake must not hold the process. */
const closeGently = (socket: WebSocket): void => {
  socket.close();
  const timer = setTimeout(() => socket.terminate(), 1_000);
  timer.unref();
  socket.on("close", () => clearTimeout(timer));
};

const closed = (socketPath: string, cause?: unknown): KilnError =>
  new KilnError("DAEMON_UNREACHABLE", `the connection to ${socketPath} is closed`, { cause, object: socketPath });

const sendOver = (socket: WebSocket, message: string | Uint8Array, socketPath: string): Promise<void> =>
  new Promise((resolve, reject) => {
    if (socket.readyState !== WebSocket.OPEN) return reject(closed(socketPath));
    socket.send(message, (error) => (error === undefined || error === null ? resolve() : reject(closed(socketPath, error))));
  });

const bytesOf = (data: RawData): Buffer => {
  if (Array.isArray(data)) return Buffer.concat(data);
  return Buffer.isBuffer(data) ? data : Buffer.from(data);
};

const refusalOf = (incoming: IncomingMessage, what: string): Promise<KilnError> =>
  problemOf(
    {
      status: incoming.statusCode ?? 0,
      header: (name) => (typeof incoming.headers[name] === "string" ? incoming.headers[name] : null),
      body: incoming,
    },
    what,
  );
