import type { Context } from "hono";
import { stream } from "hono/streaming";
import type { StreamingApi } from "hono/utils/stream";
import { asKilnError } from "@kiln/protocol";
import type { Core } from "../operations/core.ts";
import { HTTP_LIMITS } from "./limits.ts";

/**
 * A body that is written as it comes; `write` waits for a slow client. A client that leaves aborts the signal. What
 * fails in the middle is logged, and the body ends: the status has gone out already.
 */
export const streamBody = (
  context: Context,
  { journal }: Pick<Core, "journal">,
  work: (out: StreamingApi, signal: AbortSignal) => Promise<void>,
): Response =>
  stream(context, async (out) => {
    const left = new AbortController();
    out.onAbort(() => left.abort());
    try {
      await work(out, left.signal);
    } catch (error) {
      if (!left.signal.aborted) journal.error({ path: context.req.path, error: asKilnError(error).message }, "a stream broke off");
    }
  });

/**
 * A body that ends only where all of it was sent: what fails before its first piece is the answer, and what fails later is logged and breaks
 * the connection off. A client that leaves aborts the signal; the work has ended, and let go of what it holds, in each case.
 */
export const wholeBody = async (
  context: Context,
  { journal }: Pick<Core, "journal">,
  work: (signal: AbortSignal) => AsyncGenerator<Uint8Array, void>,
): Promise<Response> => {
  const left = new AbortController();
  const signal = AbortSignal.any([left.signal, context.req.raw.signal]);
  const pieces = work(signal);
  let first: IteratorResult<Uint8Array, void> | null = await pieces.next();
  const body = new ReadableStream<Uint8Array>(
    {
      pull: async (out) => {
        try {
          const { done, value } = first ?? (await pieces.next());
          first = null;
          if (done === true) out.close();
          else out.enqueue(value);
        } catch (error) {
          if (!signal.aborted) journal.error({ path: context.req.path, error: asKilnError(error).message }, "a stream broke off");
          throw error;
        }
      },
      cancel: async () => {
        left.abort();
        await pieces.return();
      },
    },
    { highWaterMark: 0 },
  );
  // said beforehand, or the server looks at the first pieces before it begins, and makes an answer of its own of what fails there
  return context.body(body as ReadableStream<Uint8Array<ArrayBuffer>>, 200, { "transfer-encoding": "chunked" });
};

/** JSON that is kept as bytes. A body of bytes would be copied for each answer, and a string encoded, which for megabytes takes longer than sending them. */
export const keptJson = (context: Context, bytes: Uint8Array<ArrayBuffer>): Response => {
  let sent = 0;
  const pieces = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull: (out) => {
      if (sent < bytes.length) out.enqueue(bytes.subarray(sent, (sent += HTTP_LIMITS.pieceBytes)));
      else out.close();
    },
  });
  return context.body(pieces, 200, { "content-type": "application/json", "content-length": String(bytes.length) });
};
