import type { LookupFunction, Socket } from "node:net";
import type { SecureContext } from "node:tls";
import { errnoOf } from "@kiln/protocol";
import { Agent, buildConnector, type Dispatcher, errors, ProxyAgent } from "undici";
import { type AddressScope, addressScope, isLoopbackName, mayLead } from "./addresses.ts";
import { exchange, type RawAnswer } from "./exchange.ts";
import { ExchangeError } from "./exchange-error.ts";
import type { RegistryLimits } from "./limits.ts";
import { proxyFor } from "./proxies.ts";
import { type Certificates, createTrust } from "./trust.ts";

export interface OutgoingRequest {
  readonly method: "GET" | "HEAD" | "POST";
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal: AbortSignal;
}

export interface ConnectionOptions {
  /** `host[:port]`, as in URLs. */
  readonly host: string;
  readonly certificates: Certificates;
  /** Hosts that may be anywhere. */
  readonly redirects: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly limits: RegistryLimits;
  /** Replaces the system's resolver. */
  readonly lookup?: LookupFunction | undefined;
}

/** The least trusted first: a registry that was ever reached in public points to public addresses only. */
const BY_TRUST: readonly AddressScope[] = [
  "public",
  "reserved",
  "multicast",
  "metadata",
  "unspecified",
  "link-local",
  "carrier",
  "private",
  "loopback",
];

/**
 * The connections to one registry and to where it points. An address that a registry points to is judged on the
 * connection itself, before a byte is sent, so that no name that resolves differently the next time gets past it.
 */
export class Connections implements AsyncDisposable {
  readonly #options: ConnectionOptions;
  readonly #dispatchers = new Map<string, Dispatcher>();
  readonly #trust: { ours: SecureContext | null; others: SecureContext | null } = { ours: null, others: null };
  /** Where the registry itself was found; null before the first connection. */
  #scope: AddressScope | null = null;
  readonly #closing = new AbortController();

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  /** Whether a URL is on the registry itself: its host and port, whatever the scheme. */
  isOwn(url: URL): boolean {
    return url.host === new URL(`${url.protocol}//${this.#options.host}`).host;
  }

  /** One request, without redirects. Resolves with the head of the answer. Throws ExchangeError, or the signal's reason. */
  async send(request: OutgoingRequest): Promise<RawAnswer> {
    const { url, signal } = request;
    signal.throwIfAborted();
    try {
      const { headersMs, idleMs } = this.#options.limits;
      const [path, headers, body] = [`${url.pathname}${url.search}`, { ...request.headers }, request.body ?? null];
      const asked = { origin: url.origin, path, method: request.method, headers, body, headersTimeout: headersMs, bodyTimeout: idleMs };
      return await exchange(this.#dispatcher(url), asked, signal);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw explainFailure(error, url, this.#proxyOf(url));
    }
  }

  /** Ends all connections at once; requests that are in flight fail. */
  async [Symbol.asyncDispose](): Promise<void> {
    // those that are still being made, too
    this.#closing.abort(new ExchangeError("REGISTRY_UNREACHABLE", "the daemon ends"));
    const dispatchers = [...this.#dispatchers.values()];
    this.#dispatchers.clear();
    await Promise.all(dispatchers.map((one) => one.destroy()));
  }

  /** HOST[:PORT] without the password that may be in it; null for none. */
  #proxyOf(url: URL): string | null {
    const proxy = proxyFor(url, this.#options.env);
    return proxy === null ? null : new URL(proxy).host;
  }

  #dispatcher(url: URL): Dispatcher {
    this.#closing.signal.throwIfAborted();
    const isOwn = this.isOwn(url);
    const proxy = proxyFor(url, this.#options.env);
    const scope = this.#scope ?? "public";
    if (proxy !== null) {
      if (isOwn) this.#recordScope(literalScope(url.hostname));
      else this.#requireAllowed(url, literalScope(url.hostname), scope);
    }
    const key = `${isOwn ? "own" : scope} ${proxy ?? ""}`;
    const known = this.#dispatchers.get(key);
    if (known !== undefined) return known;
    const check = isOwn
      ? (target: URL, found: AddressScope) => this.#takeOwn(target, found)
      : (target: URL, found: AddressScope) => this.#requireAllowed(target, found, scope);
    const dispatcher = proxy === null ? this.#direct(isOwn, check) : this.#proxied(isOwn, proxy);
    this.#dispatchers.set(key, dispatcher);
    return dispatcher;
  }

  #direct(isOwn: boolean, check: (url: URL, found: AddressScope) => void): Dispatcher {
    const { limits, lookup } = this.#options;
    const resolver = lookup === undefined ? {} : { lookup };
    const tcp = buildConnector({ timeout: limits.connectMs, allowH2: false, signal: this.#closing.signal, ...resolver });
    const connect: buildConnector.connector = (options, callback) => {
      const isSecure = options.protocol === "https:";
      const port = options.port === "" ? (isSecure ? "443" : "80") : options.port;
      tcp({ hostname: options.hostname, protocol: "http:", port }, (error, socket) => {
        if (error !== null) return callback(error, null);
        const refusal = refusalOf(() => check(new URL(`${options.protocol}//${options.host ?? options.hostname}`), remoteScope(socket)));
        if (refusal !== null) {
          socket.destroy();
          return callback(refusal, null);
        }
        if (!isSecure) return callback(null, socket);
        try {
          this.#secure(isOwn)({ ...options, httpSocket: socket }, callback);
        } catch (cause) {
          socket.destroy();
          callback(cause instanceof Error ? cause : new TypeError(String(cause)), null);
        }
      });
    };
    return new Agent({ connect, keepAliveTimeout: limits.keepAliveMs, allowH2: false });
  }

  #proxied(isOwn: boolean, uri: string): Dispatcher {
    const { limits } = this.#options;
    const requestTls = { secureContext: this.#trustFor(isOwn), timeout: limits.connectMs };
    const proxyTls = { secureContext: this.#trustFor(false), timeout: limits.connectMs };
    return new ProxyAgent({ uri, requestTls, proxyTls, keepAliveTimeout: limits.keepAliveMs, allowH2: false });
  }

  #secure(isOwn: boolean): buildConnector.connector {
    return buildConnector({ timeout: this.#options.limits.connectMs, allowH2: false, secureContext: this.#trustFor(isOwn) });
  }

  #trustFor(isOwn: boolean): SecureContext {
    const name = isOwn ? "ours" : "others";
    return (this.#trust[name] ??= createTrust(this.#options.certificates, { ours: isOwn }));
  }

  /** Names of the loopback may be spoken to without TLS, and so they must be there. */
  #takeOwn({ protocol, hostname }: URL, found: AddressScope): void {
    if (protocol === "http:" && isLoopbackName(hostname) && found !== "loopback") {
      throw new ExchangeError("REGISTRY_UNREACHABLE", `${hostname} is at a ${found} address, and not on this machine`);
    }
    this.#recordScope(found);
  }

  #recordScope(found: AddressScope): void {
    if (this.#scope === null || BY_TRUST.indexOf(found) < BY_TRUST.indexOf(this.#scope)) this.#scope = found;
  }

  #requireAllowed(url: URL, found: AddressScope, from: AddressScope): void {
    const isListed = this.#options.redirects.some((one) => one === url.host || one === url.hostname);
    if (mayLead(from, found, { isListed })) return;
    throw new ExchangeError("REGISTRY_REDIRECT_REFUSED", `it points to ${url.host}, which is at a ${found} address`);
  }
}

const refusalOf = (check: () => void): Error | null => {
  try {
    check();
    return null;
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
};

const remoteScope = (socket: Socket): AddressScope => addressScope(socket.remoteAddress ?? "");

/** Through a proxy only what the URL itself says is known; a name may be anything that the proxy reaches. */
const literalScope = (hostname: string): AddressScope => {
  if (isLoopbackName(hostname)) return "loopback";
  return /^\[.*\]$|^[\d.]+$/.test(hostname) ? addressScope(hostname) : "public";
};

/** Undici's and Node's codes, by what they mean to whoever pulls. */
const UNREACHABLE: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there",
  EHOSTUNREACH: "there is no way to it",
  ENETUNREACH: "there is no way to its network",
  ETIMEDOUT: "it does not answer",
  EAI_AGAIN: "its name cannot be looked up now",
  UND_ERR_CONNECT_TIMEOUT: "it does not answer",
  UND_ERR_HEADERS_TIMEOUT: "it does not answer the request",
  UND_ERR_PRX_CONN: "the proxy ended the connection",
};
const CUT = new Set([
  "UND_ERR_SOCKET",
  "ECONNRESET",
  "EPIPE",
  "UND_ERR_RES_CONTENT_LENGTH_MISMATCH",
  "UND_ERR_DESTROYED",
  "UND_ERR_CLOSED",
]);
const NO_TLS = /^(?:EPROTO|ERR_SSL_)/;
const UNTRUSTED = /^(?:ERR_TLS_|CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|HOSTNAME_MISMATCH|INVALID_CA|UND_ERR_PRX_TLS)/;

/** A proxy that is not reached, or does not connect. Only the way to the proxy itself ends with these codes: what is behind it, it answers for. */
const explainProxy = (cause: Error, proxy: string): ExchangeError | null => {
  const code = errnoOf(cause) ?? "";
  const why = code === "ENOTFOUND" ? "there is no such host" : UNREACHABLE[code];
  const hint = "check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY of the environment in which the daemon was started";
  const again = "soon";
  if (why !== undefined && code !== "UND_ERR_HEADERS_TIMEOUT")
    return new ExchangeError("REGISTRY_UNREACHABLE", `the proxy ${proxy} cannot be reached: ${why}`, { cause, hint, again });
  const [, status] = /^Proxy response \((\d+)\)/.exec(cause.message) ?? [];
  if (status === undefined) return null;
  const login =
    "it wants a login: put it into the environment in which the daemon is started, as in HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT";
  return new ExchangeError("REGISTRY_UNREACHABLE", `the proxy ${proxy} does not connect to it: it answered ${status}`, {
    ...(status === "407" ? { hint: login } : { hint, again }),
  });
};

/** What kept an exchange from happening or from ending. The signal's own abort is the caller's to tell apart. */
export const explainFailure = (thrown: unknown, { host, hostname }: URL, proxy: string | null = null): ExchangeError => {
  if (thrown instanceof ExchangeError) return thrown;
  const cause = thrown instanceof Error ? thrown : new TypeError(String(thrown));
  const code = errnoOf(cause) ?? "";
  const byProxy = proxy === null ? null : explainProxy(cause, proxy);
  if (byProxy !== null) return byProxy;
  const unreachable = (why: string, more: object = { again: "soon" }): ExchangeError =>
    new ExchangeError("REGISTRY_UNREACHABLE", why, { cause, ...more });
  const reason = UNREACHABLE[code];
  const isRefused = code === "ECONNREFUSED";
  if (reason !== undefined)
    return unreachable(`${host} cannot be reached: ${reason}`, { again: "soon", ...(isRefused ? { connection: "refused" } : {}) });
  if (code === "ENOTFOUND") return unreachable(`there is no host ${hostname}`, {});
  if (CUT.has(code)) return unreachable(`${host} ended the connection`, { again: "soon", connection: "cut" });
  if (code === "UND_ERR_BODY_TIMEOUT") return unreachable(`${host} sends nothing any more`);
  if (NO_TLS.test(code)) return unreachable(`${host} does not speak TLS as it should`, { connection: "no-tls" });
  if (UNTRUSTED.test(code))
    // the first of its words: the others are Node's advice to who starts it
    return unreachable(`${host} cannot be trusted: ${cause.message.split(";")[0]}`, {
      cause: undefined,
      connection: "untrusted",
      hint: TRUST_HINT,
    });
  if (cause instanceof errors.HTTPParserError || code === "UND_ERR_HEADERS_OVERFLOW") {
    return new ExchangeError("REGISTRY_FAILED", `${host} does not speak HTTP as it should`, {
      cause,
      again: "soon",
      connection: "garbled",
    });
  }
  // the proxy's own words, and what has no code
  return unreachable(`${host} cannot be reached: ${cause.message}`);
};

const TRUST_HINT = "if the registry has a CA of its own, name it as `ca` in registries.toml";
