import type { RegistryCredential } from "@kiln/protocol";
import { type Clock, SingleFlight } from "@kiln/std";
import { z } from "zod";
import { type Answer, readBody } from "./answer.ts";
import type { Challenge } from "./challenge.ts";
import type { Connections } from "./connections.ts";
import { basicAuthorization, identityOf } from "./credentials.ts";
import { addressText, ExchangeError, plainText } from "./exchange-error.ts";
import { BoundedMap } from "./bounded-map.ts";
import type { RegistryLimits } from "./limits.ts";
import { sendFollowing } from "./redirects.ts";
import { refusalError } from "./refusal.ts";

/** Where a token is asked for, and for what. */
export interface TokenService {
  readonly realm: URL;
  readonly service: string | null;
  readonly scope: string;
}

/** Whose token for what. */
interface TokenOwner extends TokenService {
  readonly credential: RegistryCredential | null;
}

export interface TokenRequest extends TokenOwner {
  readonly connections: Connections;
  readonly userAgent: string;
  readonly signal: AbortSignal;
}

interface Token {
  readonly value: string;
  /** By the clock's monotonic time. */
  readonly usableUntilMs: number;
}

/** Distribution's token specification: the older servers say `token`, OAuth2 says `access_token`. */
const tokenAnswer = z.object({
  token: z.string().optional(),
  access_token: z.string().optional(),
  expires_in: z.number().optional(),
});

/** What a Bearer challenge asks for. Throws ExchangeError REGISTRY_FAILED, REGISTRY_REDIRECT_REFUSED. */
export const parseTokenService = (challenge: Challenge, registry: URL, repository: string): TokenService => {
  const realm = challenge.params.get("realm") ?? "";
  if (!URL.canParse(realm)) {
    throw new ExchangeError(
      "REGISTRY_FAILED",
      `${registry.host} asks for a token of ${JSON.stringify(plainText(realm))}, which is no address`,
    );
  }
  const url = new URL(realm);
  const isOwnHost = url.hostname === registry.hostname && registry.protocol === "http:";
  if (url.protocol !== "https:" && !(url.protocol === "http:" && isOwnHost)) {
    throw new ExchangeError("REGISTRY_REDIRECT_REFUSED", `${registry.host} wants a login at ${addressText(url)}, which is not over TLS`);
  }
  return {
    realm: url,
    service: challenge.params.get("service") ?? null,
    scope: challenge.params.get("scope") ?? `repository:${repository}:pull`,
  };
};

/** Tokens in memory, until shortly before they end. Who asks for one at once gets it by one request. */
export class Tokens {
  readonly #tokens: BoundedMap<Token>;
  readonly #flights = new SingleFlight<string, string>();
  readonly #clock: Clock;
  readonly #limits: RegistryLimits;

  constructor(parts: { readonly clock: Clock; readonly limits: RegistryLimits }) {
    this.#clock = parts.clock;
    this.#limits = parts.limits;
    this.#tokens = new BoundedMap(parts.limits.remembered);
  }

  /**
   * A token that is not `rejected`, the one that the registry just refused. Throws ExchangeError REGISTRY_UNAUTHORIZED,
   * REGISTRY_RATE_LIMITED, REGISTRY_UNREACHABLE, REGISTRY_FAILED, REGISTRY_REDIRECT_REFUSED, or the signal's reason.
   */
  async get(request: TokenRequest, options: { readonly rejected: string | null }): Promise<string> {
    const key = tokenKey(request);
    const known = this.#tokens.get(key);
    if (known !== undefined && known.value !== options.rejected && this.#clock.monotonicMs() < known.usableUntilMs) return known.value;
    return this.#flights.run(
      key,
      async ({ signal }) => {
        const token = await this.#fetch({ ...request, signal });
        this.#tokens.set(key, token);
        return token.value;
      },
      { signal: request.signal },
    );
  }

  /** The registry does not take it. */
  forget(token: TokenOwner): void {
    this.#tokens.delete(tokenKey(token));
  }

  async #fetch(request: TokenRequest): Promise<Token> {
    const askedMs = this.#clock.monotonicMs();
    const answer = await this.#ask(request);
    const { realm, signal } = request;
    if (answer.status !== 200) throw await refusalError(answer, { limits: this.#limits, clock: this.#clock, signal, isLogin: true });
    const body = await readBody(answer, { limitBytes: this.#limits.tokenAnswerBytes, signal });
    const { value, seconds } = this.#parse(body, realm);
    const livesSeconds = Math.min(Math.max(seconds, this.#limits.tokenSecondsMin), this.#limits.tokenSecondsMax);
    return { value, usableUntilMs: askedMs + livesSeconds * 1000 - this.#limits.tokenMarginMs };
  }

  #parse(body: Uint8Array, realm: URL): { value: string; seconds: number } {
    const wrong = (why: string, cause?: unknown): ExchangeError =>
      new ExchangeError("REGISTRY_FAILED", `${addressText(realm)} gave no token: ${why}`, { cause });
    let document: unknown;
    try {
      document = JSON.parse(new TextDecoder().decode(body));
    } catch (error) {
      throw wrong("its answer is not JSON", error);
    }
    const parsed = tokenAnswer.safeParse(document);
    const value = parsed.success ? (parsed.data.token ?? parsed.data.access_token) : undefined;
    if (!parsed.success || value === undefined) throw wrong("its answer has none");
    // what goes into a header is looked at: RFC 6750 has no other letters
    if (!/^[\x21-\x7e]+$/.test(value) || value.length > this.#limits.tokenLetters) throw wrong("what it calls a token can be none");
    return { value, seconds: parsed.data.expires_in ?? 0 };
  }

  async #ask(request: TokenRequest): Promise<Answer> {
    const { credential, connections, signal } = request;
    const headers = { accept: "application/json", "accept-encoding": "identity", "user-agent": request.userAgent };
    if (credential !== null && "identityToken" in credential) {
      const form = new URLSearchParams({
        grant_type: "refresh_token",
        client_id: "kiln",
        scope: request.scope,
        refresh_token: credential.identityToken,
        ...(request.service === null ? {} : { service: request.service }),
      });
      const type = { "content-type": "application/x-www-form-urlencoded" };
      return sendFollowing(
        { method: "POST", url: withoutFragment(request.realm), headers: { ...headers, ...type }, body: form.toString(), signal },
        connections,
        this.#limits,
      );
    }
    const url = withoutFragment(request.realm);
    if (request.service !== null) url.searchParams.set("service", request.service);
    for (const scope of request.scope.split(" ")) if (scope !== "") url.searchParams.append("scope", scope);
    const authorization = credential !== null && "username" in credential ? { authorization: basicAuthorization(credential) } : {};
    return sendFollowing({ method: "GET", url, headers: { ...headers, ...authorization }, signal }, connections, this.#limits);
  }
}

const withoutFragment = (realm: URL): URL => {
  const url = new URL(realm);
  url.hash = "";
  url.username = "";
  url.password = "";
  return url;
};

const tokenKey = ({ realm, service, scope, credential }: TokenOwner): string =>
  JSON.stringify([realm.href, service, scope, identityOf(credential)]);
