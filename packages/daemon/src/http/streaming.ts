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
