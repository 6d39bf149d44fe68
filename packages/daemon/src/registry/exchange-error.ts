import type { ErrorCode } from "@kiln/protocol";
import { REGISTRY_LIMITS } from "./limits.ts";

/** Whether asking again can help: not at all, after a pause that grows, or after so many milliseconds that the server asked for. */
export type Again = "never" | "soon" | number;

/** What happened to the connection, where it was that: nobody listens, it ended, what came is no HTTP, or no TLS, or nobody vouches for the host. */
export type ConnectionFailure = "refused" | "cut" | "garbled" | "no-tls" | "untrusted";

interface ExchangeErrorOptions {
  readonly again?: Again;
  readonly hint?: string;
  readonly cause?: unknown;
  readonly connection?: ConnectionFailure;
}

/**
 * One exchange with one host that failed. It says what the host did; whoever wanted something of it adds which image.
 * Addresses in the message are without their query, and it holds no token and no password.
 */
export class ExchangeError extends Error {
  override readonly name = "ExchangeError";
  readonly code: ErrorCode;
  readonly again: Again;
  readonly hint: string | undefined;
  readonly connection: ConnectionFailure | null;

  constructor(code: ErrorCode, message: string, options: ExchangeErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.again = options.again ?? "never";
    this.hint = options.hint;
    this.connection = options.connection ?? null;
  }
}

/** Where a request went, for people: the query of a storage's address is a signature. */
export const addressText = (url: URL): string => plainText(`${url.protocol}//${url.host}${url.pathname}`);

/** Somebody else's words for a message: on one line, without control characters, and not long. */
export const plainText = (text: string, letters: number = REGISTRY_LIMITS.refusalLetters): string => {
  const clean = text
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}]+/gu, " ")
    .replace(/\s+/gu, " ")
    .trim();
  const all = [...clean];
  return all.length > letters ? `${all.slice(0, letters).join("")}…` : clean;
};
