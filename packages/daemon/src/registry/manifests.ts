import { createHash } from "node:crypto";
import { MEDIA_TYPES, OciError, parseImageDocument, type ImageIndex, type ImageManifest } from "@kiln/formats/oci";
import { type Digest, isDigest, LIMITS } from "@kiln/protocol";
import { withDeadline } from "@kiln/std";
import { type Answer, discardBody, readBody } from "./answer.ts";
import { type AttemptParts, persist } from "./attempts.ts";
import type { BoundedMap } from "./bounded-map.ts";
import type { Endpoint } from "./endpoint.ts";
import { ExchangeError, plainText } from "./exchange-error.ts";

const ACCEPT = [MEDIA_TYPES.index, MEDIA_TYPES.manifest, MEDIA_TYPES.dockerManifestList, MEDIA_TYPES.dockerManifest].join(", ");
const HEADERS = { accept: ACCEPT, "accept-encoding": "identity" };
/** What servers say that do not know what they serve: the document says it itself. */
const VAGUE_TYPES = new Set(["application/json", "application/octet-stream", "text/plain", "binary/octet-stream"]);

export interface FetchedDocument {
  readonly digest: Digest;
  readonly bytes: Uint8Array;
  readonly document: ImageIndex | ImageManifest;
}

/** What a tag led to, and under which entity tag. */
export interface SeenManifest {
  readonly etag: string;
  readonly digest: Digest;
}

type Options = AttemptParts & { readonly signal: AbortSignal };

/** `reference`: a tag or a digest. Throws ExchangeError, or the signal's reason. */
export const fetchManifest = (endpoint: Endpoint, reference: string, options: Options): Promise<FetchedDocument> =>
  attempt(endpoint, options, async (signal) => {
    const answer = await endpoint.ask(
      { method: "GET", object: `manifests/${reference}`, headers: HEADERS, accepted: [200], signal },
      options,
    );
    const bytes = await readBody(answer, { limitBytes: LIMITS.manifestBytes, signal });
    const digest = digestOf(bytes);
    if (isDigest(reference) && reference !== digest) {
      throw new ExchangeError("CONTENT_DIGEST_MISMATCH", `what ${endpoint.name} has as ${reference} is ${digest}`);
    }
    const claimed = claimedDigest(answer);
    if (claimed !== null && claimed !== digest) {
      throw new ExchangeError("CONTENT_DIGEST_MISMATCH", `${endpoint.name} says it sent ${claimed}, and sent ${digest}`);
    }
    return { digest, bytes, document: parseDocument(answer, bytes, endpoint) };
  });

/**
 * The digest that a tag leads to, by a question without an answer's body where the host says it in the head; else by the
 * manifest itself, unless its entity tag is one that was seen. Throws as fetchManifest does.
 */
export const resolveTag = (
  endpoint: Endpoint,
  tag: string,
  options: Options & { readonly seen: BoundedMap<SeenManifest>; readonly key: string },
): Promise<Digest> =>
  attempt(endpoint, options, async (signal) => {
    const object = `manifests/${tag}`;
    // 405 and 501: servers of static files that do not know the method
    const head = await endpoint.ask({ method: "HEAD", object, headers: HEADERS, accepted: [200, 405, 501], signal }, options);
    await discardBody(head, options.limits);
    const claimed = head.status === 200 ? claimedDigest(head) : null;
    if (claimed !== null) return claimed;
    const seen = options.seen.get(options.key);
    if (seen !== undefined && head.header("etag") === seen.etag) return seen.digest;
    const condition = seen === undefined ? {} : { "if-none-match": seen.etag };
    const accepted = seen === undefined ? [200] : [200, 304];
    const answer = await endpoint.ask({ method: "GET", object, headers: { ...HEADERS, ...condition }, accepted, signal }, options);
    if (answer.status === 304 && seen !== undefined) {
      await discardBody(answer, options.limits);
      return seen.digest;
    }
    const bytes = await readBody(answer, { limitBytes: LIMITS.manifestBytes, signal });
    parseDocument(answer, bytes, endpoint);
    const digest = digestOf(bytes);
    const etag = answer.header("etag");
    if (etag !== null && etag.length < 1000) options.seen.set(options.key, { etag, digest });
    return digest;
  });

const attempt = <Result>(endpoint: Endpoint, options: Options, run: (signal: AbortSignal) => Promise<Result>): Promise<Result> => {
  const { limits, clock } = options;
  const onTimeout = (): Error =>
    new ExchangeError("REGISTRY_UNREACHABLE", `${endpoint.name} took longer than ${limits.documentMs / 1000} s`);
  return persist(() => withDeadline(limits.documentMs, run, { signal: options.signal, clock, onTimeout }), {
    ...options,
    attempts: limits.attempts,
  });
};

const digestOf = (bytes: Uint8Array): Digest => `sha256:${createHash("sha256").update(bytes).digest("hex")}` as Digest;

/** A digest of another algorithm says nothing here: it is not what the content is kept by. */
const claimedDigest = (answer: Answer): Digest | null => {
  const claimed = answer.header("docker-content-digest");
  return claimed !== null && isDigest(claimed) ? claimed : null;
};

const parseDocument = (answer: Answer, bytes: Uint8Array, endpoint: Endpoint): ImageIndex | ImageManifest => {
  const [type = ""] = (answer.header("content-type") ?? "").toLowerCase().split(";");
  const named = type.trim();
  if (named === "text/html") {
    throw new ExchangeError(
      "REGISTRY_FAILED",
      `${endpoint.name} answered with a page for people: it is no registry, or a proxy stands before it`,
    );
  }
  try {
    return parseImageDocument(bytes, named === "" || VAGUE_TYPES.has(named) ? null : named, "what it sent");
  } catch (error) {
    if (!(error instanceof OciError)) throw error;
    throw new ExchangeError("IMAGE_INVALID", `${endpoint.name} sent no usable manifest: ${plainText(error.message)}`, { cause: error });
  }
};
