import type { Context } from "hono";
import { stream } from "hono/streaming";
import type { StreamingApi } from "hono/utils/stream";
import { asKilnError } from "@kiln/protocol";
import type { Core } from "../operations/core.ts";

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
