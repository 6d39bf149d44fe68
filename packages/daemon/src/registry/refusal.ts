import type { ErrorCode } from "@kiln/protocol";
import type { Clock } from "@kiln/std";
import { z } from "zod";
import type { Answer } from "./answer.ts";
import { type Again, ExchangeError, plainText } from "./exchange-error.ts";
import type { RegistryLimits } from "./limits.ts";

/** Distribution's specification, "Errors": all fields but `code` may be missing, and some registries leave that out too. */
const refusalDocument = z.object({
  errors: z.array(z.object({ code: z.unknown().optional(), message: z.unknown().optional() })).min(1),
});
/** OAuth2 (RFC 6749, 5.2) and what token servers make of it. */
const tokenRefusal = z.object({
  error: z.string().optional(),
  error_description: z.string().optional(),
  details: z.string().optional(),
  message: z.string().optional(),
});

export interface RefusalOptions {
  readonly limits: RegistryLimits;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Whether it is a login that was refused, wherever that is. */
  readonly isLogin?: boolean;
  /** What it means that the thing is not there; by default that there is no such image. */
  readonly missing?: ErrorCode;
}

/** An answer that is not what was asked for, as an error with the server's own words. Reads the body. */
export const refusalError = async (answer: Answer, options: RefusalOptions): Promise<ExchangeError> => {
  const words = await readWords(answer, options);
  const status = answer.status;
  const said = `${answer.url.host} answered ${status}${words === "" ? "" : `: ${words}`}`;
  if (status === 429 || status === 503) return busyError(answer, said, options);
  const isPassing = status >= 500 || status === 408 || status === 425;
  if (options.isLogin === true) return new ExchangeError(loginCode(status), said, { again: isPassing ? "soon" : "never" });
  // a storage refuses an address whose signature has expired; the registry makes a new one
  const isExpired = answer.isElsewhere && (status === 401 || status === 403);
  return new ExchangeError(codeOf(answer, options.missing), said, { again: isPassing || isExpired ? "soon" : "never" });
};

/** OAuth2 refuses a token that is no longer valid with 400. */
const loginCode = (status: number): ErrorCode =>
  status === 400 || status === 401 || status === 403 ? "REGISTRY_UNAUTHORIZED" : "REGISTRY_FAILED";

const codeOf = ({ status, isElsewhere }: Answer, missing: ErrorCode = "IMAGE_NOT_FOUND"): ErrorCode => {
  if (isElsewhere) return "REGISTRY_FAILED";
  if (status === 401 || status === 403) return "REGISTRY_UNAUTHORIZED";
  return status === 404 || status === 410 ? missing : "REGISTRY_FAILED";
};

const busyError = (answer: Answer, said: string, { limits, clock }: RefusalOptions): ExchangeError => {
  const askedMs = parseRetryAfter(answer.header("retry-after"), clock.now());
  const isLong = askedMs !== null && askedMs > limits.retryAfterMs;
  const code = answer.status === 429 || isLong ? "REGISTRY_RATE_LIMITED" : "REGISTRY_FAILED";
  const again: Again = isLong ? "never" : (askedMs ?? "soon");
  return new ExchangeError(code, isLong ? `${said}; it asks to come back in ${durationText(askedMs)}` : said, { again });
};

/** RFC 9110, 10.2.3: seconds, or a date. Milliseconds from now; null for anything else. */
export const parseRetryAfter = (value: string | null, nowMs: number): number | null => {
  if (value === null) return null;
  if (/^\s*\d{1,9}\s*$/.test(value)) return Number(value) * 1000;
  // a date of HTTP always names the day; what Date would make of other text is nobody's meaning
  const dateMs = /^\s*[A-Z][a-z]{2,8},? /.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(dateMs) ? null : Math.max(0, dateMs - nowMs);
};

const durationText = (ms: number): string => {
  const minutes = Math.ceil(ms / 60_000);
  if (minutes < 120) return `${minutes} minutes`;
  return `${Math.ceil(minutes / 60)} hours`;
};

const readWords = async (answer: Answer, { limits, signal }: RefusalOptions): Promise<string> => {
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of answer.body) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > limits.refusalBytes) break;
    }
  } catch (error) {
    signal.throwIfAborted();
    // the status says enough where the words break off
    return error instanceof Error ? wordsOf(Buffer.concat(chunks), limits) : "";
  }
  return wordsOf(Buffer.concat(chunks), limits);
};

const wordsOf = (body: Uint8Array, limits: RegistryLimits): string => {
  const text = new TextDecoder().decode(body.subarray(0, limits.refusalBytes));
  const document = parseJson(text);
  const refusal = refusalDocument.safeParse(document);
  if (refusal.success) {
    const words = refusal.data.errors.map(({ code, message }) =>
      [code, message].filter((one) => typeof one === "string" && one !== "").join(": "),
    );
    return plainText(words.join("; "), limits.refusalLetters);
  }
  const token = tokenRefusal.safeParse(document);
  if (token.success) return plainText(Object.values(token.data).filter(Boolean).join(": "), limits.refusalLetters);
  return /^\s*</.test(text) ? "" : plainText(text, limits.refusalLetters);
};

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
};
