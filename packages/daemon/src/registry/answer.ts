import { explainFailure } from "./connections.ts";
import type { Body, RawAnswer } from "./exchange.ts";
import { addressText, ExchangeError, plainText } from "./exchange-error.ts";
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
  readonly body: Body;
}

export const createAnswer = (raw: RawAnswer, where: { readonly url: URL; readonly isElsewhere: boolean }): Answer => {
  const headers = (name: string): readonly string[] => {
    const value = raw.headers[name];
    return value === undefined ? [] : typeof value === "string" ? [value] : value;
  };
  return { ...where, status: raw.status, body: raw.body, headers, header: (name) => headers(name)[0] ?? null };
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
    for await (const chunk of body) {
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
export const discardBody = async ({ body, header }: Answer, limits: RegistryLimits): Promise<void> => {
  if (!(Number(header("content-length") ?? Number.NaN) <= limits.refusalBytes)) {
    body.destroy();
    return;
  }
  try {
    let size = 0;
    for await (const chunk of body) {
      size += chunk.length;
      if (size > limits.refusalBytes) return;
    }
  } catch (error) {
    // whatever ended it, it is gone: that says nothing about what the head said
    if (!(error instanceof Error)) throw error;
  }
};
