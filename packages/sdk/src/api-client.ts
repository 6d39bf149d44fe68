import { KilnError, parseProblem, type ErrorCode } from "@kiln/protocol/errors";
import { randomHex, retry, type Clock, type RandomSource } from "@kiln/std";
import { collect, linesOf } from "./bytes.ts";
import { SDK_LIMITS } from "./limits.ts";
import type { Method, Transport, TransportRequest, TransportResponse, TransportSocket } from "./transport.ts";

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface ApiRequest extends CallOptions {
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Sent as JSON. */
  readonly json?: unknown;
  /** Sent as octets: called again for each try. */
  readonly octets?: { readonly sizeBytes: number; readonly open: () => AsyncIterable<Uint8Array> };
}

/** The signal of a call that nobody cancels. */
export const NEVER = new AbortController().signal;

const withQuery = (path: string, query: ApiRequest["query"]): string => {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined) search.set(name, String(value));
  }
  return search.size === 0 ? path : `${path}?${search.toString()}`;
};

/** No answer came, or it broke off: the connection's fault, not the request's. */
export const isUnreachable = (error: unknown): boolean => error instanceof KilnError && error.code === "DAEMON_UNREACHABLE";

/** The code of an answer without a problem document, such as a proxy's. */
const codeOfStatus = (status: number): ErrorCode => (status === 404 ? "NOT_FOUND" : status === 413 ? "REQUEST_TOO_LARGE" : "INTERNAL");

/**
 * Calls of the HTTP API. Every call may be tried again when no answer came: reads by their nature, mutations
 * because all tries of one call carry one Idempotency-Key. Errors are KilnErrors, as the daemon's problem says.
 */
export class ApiClient {
  readonly #transport: Transport;
  readonly #random: RandomSource;
  readonly clock: Clock;

  constructor(transport: Transport, ambient: { readonly clock: Clock; readonly random: RandomSource }) {
    this.#transport = transport;
    this.#random = ambient.random;
    this.clock = ambient.clock;
  }

  /** A fresh id for an exec or an idempotency key. */
  newId(): string {
    return randomHex(this.#random, 16);
  }

  /** The parsed JSON of the answer; undefined where it has no body. */
  async json<T>(method: Method, path: string, request: ApiRequest = {}): Promise<T> {
    return this.#tried({
      method,
      path,
      request,
      read: async (response) => {
        const bytes = await collect(response.body, SDK_LIMITS.answerBytes);
        if (bytes.length === 0) return undefined as T;
        try {
          return JSON.parse(new TextDecoder().decode(bytes)) as T;
        } catch (cause) {
          throw new KilnError("INTERNAL", `${method} ${path}: the daemon's answer is not JSON`, { cause });
        }
      },
    });
  }

  /** The answer's body as it arrives; only getting the answer is retried. */
  async stream(path: string, request: ApiRequest = {}): Promise<AsyncIterable<Uint8Array>> {
    return this.#tried({ method: "GET", path, request, read: async (response) => response.body });
  }

  /** One JSON value a line. */
  async *lines<T>(path: string, request: ApiRequest = {}): AsyncGenerator<T> {
    for await (const line of linesOf(await this.stream(path, request))) yield JSON.parse(line) as T;
  }

  openSocket(path: string, request: ApiRequest = {}): Promise<TransportSocket> {
    return this.#transport.openSocket(withQuery(path, request.query), { signal: request.signal ?? NEVER });
  }

  close(): void {
    this.#transport.close();
  }

  async #tried<T>({ method, path, request, read }: Tried<T>): Promise<T> {
    const signal = request.signal ?? NEVER;
    const headers: Record<string, string> = { accept: "application/json", ...request.headers };
    if (method !== "GET" && method !== "HEAD") headers["idempotency-key"] = this.newId();
    if (request.json !== undefined) headers["content-type"] = "application/json";
    if (request.octets !== undefined) {
      headers["content-type"] = "application/octet-stream";
      headers["content-length"] = String(request.octets.sizeBytes);
    }
    const fixed = request.json === undefined ? undefined : JSON.stringify(request.json);
    const target = withQuery(path, request.query);
    return retry(
      async () => {
        const options: TransportRequest = { headers, body: request.octets?.open() ?? fixed, signal };
        const response = await this.#transport.request(method, target, options);
        if (response.status >= 400) throw await problemOf(response, `${method} ${path}`);
        return read(response);
      },
      {
        attempts: SDK_LIMITS.callAttempts,
        baseMs: SDK_LIMITS.callBaseMs,
        maxMs: SDK_LIMITS.callMaxMs,
        clock: this.clock,
        random: this.#random,
        shouldRetry: isUnreachable,
        signal,
      },
    );
  }
}

interface Tried<T> {
  readonly method: Method;
  readonly path: string;
  readonly request: ApiRequest;
  readonly read: (response: TransportResponse) => Promise<T>;
}

/** Reads a failed answer to its end. */
export const problemOf = async (response: TransportResponse, what: string): Promise<KilnError> => {
  const text = new TextDecoder().decode(await collect(response.body, SDK_LIMITS.answerBytes));
  if ((response.header("content-type") ?? "").includes("json")) {
    try {
      return parseProblem(JSON.parse(text));
    } catch (cause) {
      return new KilnError(codeOfStatus(response.status), `${what}: the daemon answered ${response.status} with broken JSON`, { cause });
    }
  }
  return new KilnError(codeOfStatus(response.status), `${what}: the daemon answered ${response.status}: ${text.slice(0, 200)}`);
};
