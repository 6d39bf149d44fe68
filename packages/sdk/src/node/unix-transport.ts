import type { Agent, IncomingMessage } from "node:http";
import { pipeline } from "node:stream/promises";
import { Readable } from "node:stream";
import { errnoOf, KilnError } from "@kiln/protocol/errors";
import type { Method, Transport, TransportRequest, TransportResponse, TransportSocket } from "../transport.ts";

/**
 * Not imported: an import reads every name that the module offers, and those of WebSocket load undici, TLS and
 * crypto, 25 ms that no call over a Unix socket needs.
 */
const { Agent: HttpAgent, request: httpRequest } = process.getBuiltinModule("node:http");

export interface UnixTransportOptions {
  readonly socketPath: string;
  /**
   * Called when a call or a session finds that the daemon has crashed: its socket is there and refuses. A daemon that
   * was stopped has taken its socket away, and stays stopped. A few times at most: one that always crashes stays down.
   */
  readonly revive?: (options: { readonly signal: AbortSignal }) => Promise<void>;
}

/** sockaddr_un.sun_path is 108 bytes with its final NUL: unix(7). */
const LONGEST_SOCKET_PATH_BYTES = 107;

const REVIVALS = 3;

/** What a connection that was never answered ends with; EAGAIN is a full backlog of a Unix socket. */
const UNANSWERED = new Set(["ENOENT", "ECONNREFUSED", "ECONNRESET", "EPIPE", "EAGAIN", "ECONNABORTED", "ENOTCONN"]);

/** A failure of the connection itself as a KilnError; anything else as it is. */
export const connectionError = (cause: unknown, socketPath: string): unknown => {
  const errno = errnoOf(cause);
  if (errno === "EACCES" || errno === "EPERM") {
    return new KilnError("PERMISSION_DENIED", `the daemon's socket ${socketPath} may not be opened`, { cause, object: socketPath });
  }
  if (errno === null || !UNANSWERED.has(errno)) return cause;
  return new KilnError("DAEMON_UNREACHABLE", `no daemon answers on ${socketPath}`, { cause, object: socketPath });
};

/** HTTP with kept-alive connections, and WebSockets, over a daemon's Unix socket. Paths of any length work. */
export class UnixTransport implements Transport {
  readonly #socketPath: string;
  readonly #revive: UnixTransportOptions["revive"];
  #revivals = 0;
  #opened: Promise<OpenPath> | null = null;

  constructor(options: UnixTransportOptions) {
    this.#socketPath = options.socketPath;
    this.#revive = options.revive;
  }

  async request(method: Method, path: string, options: TransportRequest): Promise<TransportResponse> {
    options.signal.throwIfAborted();
    try {
      const { agent, path: connectPath } = await this.#open();
      return await exchange({ agent, connectPath, method, path, options, failure: (cause) => connectionError(cause, this.#socketPath) });
    } catch (thrown) {
      if (options.signal.aborted) throw options.signal.reason;
      await this.#reviveCrashed(thrown, options.signal);
      throw connectionError(thrown, this.#socketPath);
    }
  }

  async openSocket(path: string, options: { readonly signal: AbortSignal }): Promise<TransportSocket> {
    options.signal.throwIfAborted();
    try {
      // Loaded here: most commands open no WebSocket.
      const [{ openWebSocket }, { path: connectPath }] = await Promise.all([import("./web-socket.ts"), this.#open()]);
      return await openWebSocket({ connectPath, path, signal: options.signal, socketPath: this.#socketPath });
    } catch (thrown) {
      if (options.signal.aborted) throw options.signal.reason;
      await this.#reviveCrashed(thrown, options.signal);
      throw connectionError(thrown, this.#socketPath);
    }
  }

  close(): void {
    const opened = this.#opened;
    this.#opened = null;
    opened?.then(
      ({ agent, release }) => {
        agent.destroy();
        release();
      },
      () => undefined, // whoever asked for the path has its error
    );
  }

  async #reviveCrashed(thrown: unknown, signal: AbortSignal): Promise<void> {
    if (errnoOf(thrown) !== "ECONNREFUSED" || this.#revivals >= REVIVALS) return;
    this.#revivals += 1;
    await this.#revive?.({ signal });
  }

  #open(): Promise<OpenPath> {
    this.#opened ??= openPath(this.#socketPath).catch((error: unknown) => {
      this.#opened = null;
      throw error;
    });
    return this.#opened;
  }
}

interface OpenPath {
  readonly path: string;
  readonly agent: Agent;
  readonly release: () => void;
}

/** One socket carries one call: long polls and streams each hold theirs. */
const newAgent = (): Agent => new HttpAgent({ keepAlive: true, maxSockets: 256 });

/** A path that fits into a socket address; a longer one is reached through its directory, which stays open until `release`. */
const openPath = async (socketPath: string): Promise<OpenPath> => {
  if (Buffer.byteLength(socketPath) <= LONGEST_SOCKET_PATH_BYTES) {
    return { path: socketPath, agent: newAgent(), release: () => undefined };
  }
  // Loaded here: std/node brings SQLite and child processes, which a short path does not need.
  const { longSocketPath } = await import("@kiln/std/node");
  const short = longSocketPath(socketPath);
  return { path: short.path, agent: newAgent(), release: () => short[Symbol.dispose]() };
};

interface Exchange {
  readonly agent: Agent;
  readonly connectPath: string;
  readonly method: Method;
  readonly path: string;
  readonly options: TransportRequest;
  readonly failure: (cause: unknown) => unknown;
}

const exchange = ({ agent, connectPath, method, path, options, failure }: Exchange): Promise<TransportResponse> =>
  new Promise((resolve, reject) => {
    const { body, signal } = options;
    const headers: Record<string, string> = { host: "kiln", ...options.headers };
    if (typeof body === "string" || body instanceof Uint8Array) headers["content-length"] = String(Buffer.byteLength(body));
    const outgoing = httpRequest({ socketPath: connectPath, agent, method, path, headers, signal });
    outgoing.on("error", reject);
    outgoing.on("response", (incoming) => {
      resolve({
        status: incoming.statusCode ?? 0,
        header: (name) => headerOf(incoming, name),
        body: bodyOf(incoming, signal, failure),
      });
    });
    if (body === undefined || typeof body === "string" || body instanceof Uint8Array) outgoing.end(body);
    else pipeline(Readable.from(body, { objectMode: false }), outgoing).catch(reject);
  });

const headerOf = (incoming: IncomingMessage, name: string): string | null => {
  const value = incoming.headers[name];
  return Array.isArray(value) ? (value[0] ?? null) : (value ?? null);
};

async function* bodyOf(incoming: IncomingMessage, signal: AbortSignal, failure: (cause: unknown) => unknown): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of incoming) yield chunk as Uint8Array;
  } catch (thrown) {
    if (signal.aborted) throw signal.reason;
    throw failure(thrown);
  }
}
