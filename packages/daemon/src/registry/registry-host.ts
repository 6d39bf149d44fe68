import type { LookupFunction } from "node:net";
import type { RegistryCredential } from "@kiln/protocol";
import { type Clock, Semaphore } from "@kiln/std";
import { isLoopbackName } from "./addresses.ts";
import { type Answer, discardBody, readBody } from "./answer.ts";
import { BoundedMap } from "./bounded-map.ts";
import { type Challenge, parseChallenges } from "./challenge.ts";
import { Connections, type OutgoingRequest } from "./connections.ts";
import { basicAuthorization, identityOf } from "./credentials.ts";
import { bodyOf } from "./exchange.ts";
import { ExchangeError } from "./exchange-error.ts";
import type { RegistryLimits } from "./limits.ts";
import { sendFollowing } from "./redirects.ts";
import type { HostSettings } from "./registry-config.ts";
import { parseTokenService, type TokenService, type Tokens } from "./tokens.ts";
import type { Certificates } from "./trust.ts";

export interface HostParts {
  /** `host[:port]` to connect to. */
  readonly name: string;
  readonly settings: HostSettings;
  readonly certificates: Certificates;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly limits: RegistryLimits;
  readonly clock: Clock;
  readonly tokens: Tokens;
  readonly userAgent: string;
  readonly lookup?: LookupFunction | undefined;
}

/** In whose name, and for what, something is asked. */
export interface Visitor {
  readonly credential: RegistryCredential | null;
  readonly repository: string;
  /** Whether plain HTTP may be spoken although the host is not on the loopback. */
  readonly plainHttp: boolean;
}

export interface HostRequest {
  readonly method: "GET" | "HEAD";
  /** From the slash on, with its query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

type PathRequest = Omit<OutgoingRequest, "url"> & { readonly path: string };

/** What Go, nginx and Apache answer to plain HTTP where they speak TLS. */
const SAYS_TLS = /HTTP request to an HTTPS server|plain HTTP request was sent to HTTPS port|speaking plain HTTP to an SSL/i;

/** How a host wanted to be shown who asks, the last time. */
type Manner = { readonly kind: "basic" } | { readonly kind: "registryToken" } | { readonly kind: "bearer"; readonly service: TokenService };

/**
 * One host that speaks the distribution protocol: its connections, whether it speaks TLS, and how it wants to be shown
 * who asks. What it wanted once is sent at once the next time, so that a question costs one round trip.
 */
export class RegistryHost implements AsyncDisposable {
  readonly name: string;
  readonly settings: HostSettings;
  /** Of the blobs that come from here at once. */
  readonly blobs: Semaphore;
  readonly #parts: HostParts;
  readonly #connections: Connections;
  readonly #manners: BoundedMap<Manner>;
  /** What it was found to speak; null before it is known. A host that speaks TLS is never asked without. */
  #scheme: "http" | "https" | null = null;

  constructor(parts: HostParts) {
    const { name, settings, limits } = parts;
    this.#parts = parts;
    this.name = name;
    this.settings = settings;
    this.blobs = new Semaphore(limits.blobsPerHost);
    this.#manners = new BoundedMap(limits.remembered);
    this.#connections = new Connections({ ...parts, host: name, redirects: settings.redirects });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connections[Symbol.asyncDispose]();
  }

  /**
   * Asks once, and once more if the host wants to know who asks. The answer may be any but a 401 of the host itself.
   * Throws ExchangeError, or the signal's reason.
   */
  async ask(request: HostRequest, visitor: Visitor): Promise<Answer> {
    const shown = await this.#authorization(visitor, request.signal, null);
    const first = await this.#sendAs(request, visitor, shown);
    if (first.status !== 401 || first.isElsewhere) return first;
    await discardBody(first, this.#parts.limits);
    const manner = this.#chooseManner(first, visitor);
    this.#manners.set(mannerKey(visitor), manner);
    const fresh = await this.#authorization(visitor, request.signal, shown);
    if (fresh === shown) throw new ExchangeError("REGISTRY_UNAUTHORIZED", `${this.name} does not take the login`);
    const second = await this.#sendAs(request, visitor, fresh);
    if (second.status === 401 && !second.isElsewhere) this.#forget(visitor, manner);
    return second;
  }

  /** What was refused is not shown again: the next question begins anew. */
  #forget(visitor: Visitor, manner: Manner): void {
    this.#manners.delete(mannerKey(visitor));
    if (manner.kind === "bearer") this.#parts.tokens.forget({ ...manner.service, credential: visitor.credential });
  }

  #sendAs(request: HostRequest, visitor: Visitor, authorization: string | null): Promise<Answer> {
    const headers = { ...request.headers, "user-agent": this.#parts.userAgent, ...(authorization === null ? {} : { authorization }) };
    return this.#sendByScheme({ ...request, headers }, visitor);
  }

  /** The header, in the manner that the host wanted; null where none is known. `refused`: the one that it just did not take. */
  async #authorization(visitor: Visitor, signal: AbortSignal, refused: string | null): Promise<string | null> {
    const manner = this.#manners.get(mannerKey(visitor));
    const { credential } = visitor;
    if (manner === undefined) return null;
    if (manner.kind === "basic") return credential !== null && "username" in credential ? basicAuthorization(credential) : null;
    if (manner.kind === "registryToken")
      return credential !== null && "registryToken" in credential ? `Bearer ${credential.registryToken}` : null;
    const rejected = refused?.startsWith("Bearer ") === true ? refused.slice("Bearer ".length) : null;
    const { tokens, userAgent } = this.#parts;
    const token = await tokens.get({ ...manner.service, credential, connections: this.#connections, userAgent, signal }, { rejected });
    return `Bearer ${token}`;
  }

  #chooseManner(answer: Answer, { credential, repository }: Visitor): Manner {
    const challenges = parseChallenges(answer.headers("www-authenticate"));
    const offers = (scheme: string): Challenge | undefined => challenges.find((one) => one.scheme === scheme);
    const bearer = offers("bearer");
    if (credential !== null && "registryToken" in credential) return { kind: "registryToken" };
    if (bearer !== undefined) return { kind: "bearer", service: parseTokenService(bearer, answer.url, repository) };
    const wantsPassword = offers("basic") !== undefined;
    if (wantsPassword && credential !== null && "username" in credential) return { kind: "basic" };
    if (wantsPassword) throw new ExchangeError("REGISTRY_UNAUTHORIZED", `${this.name} wants a login`);
    throw new ExchangeError("REGISTRY_UNAUTHORIZED", `${this.name} refuses, and names no way to log in that is known here`);
  }

  async #sendByScheme(request: PathRequest, visitor: Visitor): Promise<Answer> {
    const mayBePlain = this.settings.plainHttp || visitor.plainHttp || isLoopbackName(hostnameOf(this.name));
    if (!mayBePlain || this.#scheme === "https") return this.#sendSecure(request);
    if (this.#scheme === "http") return this.#send("http", request);
    const plain = await this.#tryPlain(request);
    if (plain.answer !== null) {
      this.#scheme = "http";
      return plain.answer;
    }
    try {
      return await this.#sendSecure(request);
    } catch (error) {
      request.signal.throwIfAborted();
      // a host with TLS that is not trusted speaks TLS; else what it did to plain HTTP says more
      if (plain.error !== null && !(error instanceof ExchangeError && error.connection === "untrusted")) throw plain.error;
      throw error;
    }
  }

  /** Servers with TLS end a connection without, or answer in TLS; and without a port in the name the two have each their own. */
  #mayBeTls({ connection }: ExchangeError): boolean {
    return connection === "cut" || connection === "garbled" || (connection === "refused" && !/:\d+$/.test(this.name));
  }

  async #sendSecure(request: PathRequest): Promise<Answer> {
    const answer = await this.#send("https", request);
    this.#scheme = "https";
    return answer;
  }

  /** The answer to plain HTTP; no answer where what came looks as if TLS was expected. */
  async #tryPlain(
    request: PathRequest,
  ): Promise<{ readonly answer: Answer; readonly error: null } | { readonly answer: null; readonly error: ExchangeError | null }> {
    try {
      const answer = await this.#send("http", request);
      if (answer.status !== 400 || answer.isElsewhere) return { answer, error: null };
      const { signal } = request;
      const body = await readBody(answer, { limitBytes: this.#parts.limits.refusalBytes, signal });
      if (SAYS_TLS.test(Buffer.from(body).toString("latin1"))) return { answer: null, error: null };
      return { answer: { ...answer, body: bodyOf(body) }, error: null };
    } catch (error) {
      request.signal.throwIfAborted();
      if (!(error instanceof ExchangeError) || !this.#mayBeTls(error)) throw error;
      return { answer: null, error };
    }
  }

  #send(scheme: "http" | "https", { path, ...request }: PathRequest): Promise<Answer> {
    return sendFollowing({ ...request, url: new URL(`${scheme}://${this.name}${path}`) }, this.#connections, this.#parts.limits);
  }
}

const mannerKey = ({ credential, repository }: Visitor): string => `${identityOf(credential)} ${repository}`;

const hostnameOf = (name: string): string => new URL(`http://${name}`).hostname;
