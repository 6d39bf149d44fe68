/** The port between the SDK and the wire: HTTP requests and message sockets to one daemon. */

export type Method = "GET" | "HEAD" | "POST" | "PUT" | "DELETE";

export interface TransportRequest {
  readonly headers?: Readonly<Record<string, string>>;
  /** A stream is sent as it is read, with back-pressure. */
  readonly body?: string | Uint8Array | AsyncIterable<Uint8Array> | undefined;
  readonly signal: AbortSignal;
}

export interface TransportResponse {
  readonly status: number;
  /** The value of a header, by its lower-case name. */
  header(name: string): string | null;
  /** Read it to its end, or leave the iteration early: both give the connection back. */
  readonly body: AsyncIterable<Uint8Array>;
}

/** One WebSocket. Text messages are strings, binary ones bytes. */
export interface TransportSocket {
  /**
   * Resolves when the message was handed to the network, so that a writer can wait for a slow reader.
   * Rejects with DAEMON_UNREACHABLE if the socket has closed.
   */
  send(message: string | Uint8Array): Promise<void>;
  /** In order; ends when the socket closes, however it closes. Iterated once. */
  readonly messages: AsyncIterable<string | Uint8Array>;
  close(): void;
}

/**
 * Both methods reject with KilnError DAEMON_UNREACHABLE when no answer came (refused, reset, gone), so that the
 * layer above can tell "was never answered" from "was refused", and with the signal's reason on abort.
 */
export interface Transport {
  request(method: Method, path: string, options: TransportRequest): Promise<TransportResponse>;
  /** Rejects with the daemon's own problem if it refuses the upgrade and the platform shows the answer. */
  openSocket(path: string, options: { readonly signal: AbortSignal }): Promise<TransportSocket>;
  /** Lets go of idle connections. */
  close(): void;
}
