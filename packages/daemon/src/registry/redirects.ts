import { type Answer, createAnswer, discardBody } from "./answer.ts";
import type { Connections, OutgoingRequest } from "./connections.ts";
import { addressText, ExchangeError, plainText } from "./exchange-error.ts";
import type { RegistryLimits } from "./limits.ts";

const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/**
 * Sends a request and follows where the answer points, by hand: to another origin without what says who we are, never
 * from https to http, and to such addresses only as the connections allow. A POST, which holds a secret, goes nowhere else.
 * Throws ExchangeError, or the signal's reason.
 */
export const sendFollowing = async (request: OutgoingRequest, connections: Connections, limits: RegistryLimits): Promise<Answer> => {
  let { url, headers } = request;
  for (let hop = 0; hop <= limits.redirects; hop += 1) {
    const raw = await connections.send({ ...request, url, headers });
    const answer = createAnswer(raw, { url, isElsewhere: !connections.isOwn(url) });
    const location = REDIRECTS.has(answer.status) ? answer.header("location") : null;
    if (location === null) return answer;
    await discardBody(answer, limits);
    if (request.method === "POST")
      throw new ExchangeError("REGISTRY_REDIRECT_REFUSED", `${addressText(url)} points elsewhere with what is secret`);
    const next = nextUrl(url, location);
    if (next.origin !== url.origin) headers = withoutCredentials(headers);
    url = next;
  }
  throw new ExchangeError("REGISTRY_FAILED", `${addressText(request.url)} redirects more than ${limits.redirects} times`);
};

const nextUrl = (from: URL, location: string): URL => {
  if (!URL.canParse(location, from)) {
    throw new ExchangeError(
      "REGISTRY_FAILED",
      `${addressText(from)} points to ${JSON.stringify(plainText(location.split("?", 1)[0] ?? ""))}, which is no address`,
    );
  }
  const next = new URL(location, from);
  if (next.protocol !== "https:" && (next.protocol !== "http:" || from.protocol === "https:")) {
    throw new ExchangeError("REGISTRY_REDIRECT_REFUSED", `${addressText(from)} points to ${addressText(next)}, and not over TLS`);
  }
  return next;
};

const withoutCredentials = (headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => !["authorization", "cookie"].includes(name.toLowerCase())));
