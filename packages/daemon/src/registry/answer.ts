import type { Readable } from "node:stream";
import { addressText, ExchangeError, plainText } from "./exchange-error.ts";
import { explainFailure, type RawAnswer } from "./connections.ts";
import type { RegistryLimits } from "./limits.ts";

/** The head of an answer, and its body unread. */
export interface Answer {
  readonly status: number;
  readonly url: URL;
  /** Whether it came from elsewhere than the registry, after a redirect. */
  readonly isElsewhere: boolean;
  /** The first value of a header; null where there is none. */
  header(name: string): string | null;
  /** All values of a header. */
  headers(name: string): readonly string[];
  readonly body: Readable;
}

export const createAnswer = (raw: RawAnswer, where: { readonly url: URL; readonly isElsewhere: boolean }): Answer => {
  const headers = (name: string): readonly string[] => {
    const value = raw.headers[name];
    return value === undefined ? [] : typeof value === "string" ? [value] : value;
  };
  return { ...where, status: raw.statusCode, body: raw.body, headers, header: (name) => headers(name)[0] ?? null };
};

/** The whole body. Throws ExchangeError REGISTRY_FAILED past the limit or for an encoding that was not asked for, REGISTRY_UNREACHABLE, or the signal's reason. */
export const readBody = async (answer: Answer, options: { limitBytes: number; signal: AbortSignal }): Promise<Uint8Array> => {
  const { url, body } = answer;
  const encoding = answer.header("content-encoding");
  const announced = Number(answer.header("content-length") ?? 0);
  if ((encoding !== null && encoding !== "identity") || announced > options.limitBytes) {
    body.destroy();
    throw new ExchangeError(
      "REGISTRY_FAILED",
      announced > options.limitBytes
        ? `${addressText(url)} has ${announced} bytes, more than the ${options.limitBytes} it may have`
        : `${addressText(url)} came in the encoding ${JSON.stringify(plainText(encoding ?? ""))}, which nobody asked for`,
    );
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      size += chunk.length;
      if (size > options.limitBytes)
        throw new ExchangeError("REGISTRY_FAILED", `${addressText(url)} has more than the ${options.limitBytes} bytes it may have`);
      chunks.push(chunk);
    }
  } catch (error) {
    if (options.signal.aborted) throw options.signal.reason;
    throw explainFailure(error, url);
  }
  return Buffer.concat(chunks);
};

/** Lets go of a body that nobody reads; a short one is read to its end, so that its connection can be used again. */
export const discardBody = async (answer: Answer, limits: RegistryLimits): Promise<void> => {
  const { body } = answer;
  const announced = Number(answer.header("content-length") ?? Number.NaN);
  if (!(announced <= limits.refusalBytes)) {
    body.on("error", () => undefined).destroy();
    return;
  }
  const { promise, resolve } = Promise.withResolvers<void>();
  // whatever ends it, it is gone: an error here says nothing about what the answer said
  body
    .on("error", () => resolve())
    .on("close", () => resolve())
    .resume();
  await promise;
};
