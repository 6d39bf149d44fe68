import { KilnError } from "@kiln/protocol/errors";
import { MessageQueue } from "./message-queue.ts";
import type { Method, Transport, TransportRequest, TransportResponse, TransportSocket } from "./transport.ts";

export interface FetchTransportOptions {
  /** For example `https://kiln.example:7070`. */
  readonly baseUrl: string | URL;
  /** Sent as a bearer token; WebSockets carry it as the subprotocol `kiln.bearer.TOKEN`, as browsers set no headers there. */
  readonly token?: string;
}

async function* chunksOf(body: ReadableStream<Uint8Array> | null): AsyncGenerator<Uint8Array> {
  if (body === null) return;
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel();
  }
}

/** A transport over `fetch` and `WebSocket`: for browsers, and for a daemon on TCP. */
export class FetchTransport implements Transport {
  readonly #base: URL;
  readonly #token: string | undefined;

  constructor(options: FetchTransportOptions) {
    this.#base = new URL(options.baseUrl);
    this.#token = options.token;
  }

  async request(method: Method, path: string, options: TransportRequest): Promise<TransportResponse> {
    const { body } = options;
    const headers = new Headers(options.headers);
    if (this.#token !== undefined) headers.set("authorization", `Bearer ${this.#token}`);
    headers.delete("content-length");
    const streamed = body !== undefined && typeof body !== "string" && !(body instanceof Uint8Array);
    // Browsers stream a request body over HTTP/2 only; an array of the whole blob works everywhere.
    const sent = streamed ? await new Response(ReadableStream.from(body)).arrayBuffer() : body;
    const init: RequestInit = { method, headers, signal: options.signal, redirect: "error" };
    if (sent !== undefined) init.body = typeof sent === "string" ? sent : new Uint8Array(sent);
    let response: Response;
    try {
      response = await fetch(new URL(path, this.#base), init);
    } catch (cause) {
      if (options.signal.aborted) throw options.signal.reason;
      throw new KilnError("DAEMON_UNREACHABLE", `no answer from ${this.#base.origin}`, { cause });
    }
    return { status: response.status, header: (name) => response.headers.get(name), body: chunksOf(response.body) };
  }

  openSocket(path: string, options: { readonly signal: AbortSignal }): Promise<TransportSocket> {
    const url = new URL(path, this.#base);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, this.#token === undefined ? [] : ["kiln.v1", `kiln.bearer.${this.#token}`]);
    socket.binaryType = "arraybuffer";
    const queue = new MessageQueue();
    const unreachable = () => new KilnError("DAEMON_UNREACHABLE", `the connection to ${this.#base.origin} is closed`);
    return new Promise((resolve, reject) => {
      const leave = () => {
        socket.close();
        reject(options.signal.reason);
      };
      if (options.signal.aborted) return leave();
      options.signal.addEventListener("abort", leave, { once: true });
      socket.addEventListener("message", (event: { readonly data: unknown }) => {
        if (typeof event.data === "string") queue.push(event.data);
        else if (event.data instanceof ArrayBuffer) queue.push(new Uint8Array(event.data));
      });
      socket.addEventListener("close", () => {
        queue.end();
        options.signal.removeEventListener("abort", leave);
        reject(unreachable());
      });
      socket.addEventListener("open", () =>
        resolve({
          send: async (message) => {
            if (socket.readyState !== WebSocket.OPEN) throw unreachable();
            socket.send(typeof message === "string" ? message : new Uint8Array(message));
          },
          messages: queue,
          close: () => socket.close(),
        }),
      );
    });
  }

  close(): void {
    // fetch keeps its own connections.
  }
}
