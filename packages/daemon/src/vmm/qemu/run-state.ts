import { z } from "zod";
import type { QmpClient } from "./qmp.ts";

const replySchema = z.object({ status: z.string() });
/** The states of a machine whose guest has ended, and that waits because it was told to (qapi/run-state.json). */
const ENDED = new Set(["shutdown", "guest-panicked"]);

export const readRunState = async (qmp: QmpClient, options: { signal: AbortSignal }): Promise<"ended" | "running"> => {
  const { status } = replySchema.parse(await qmp.run("query-status", {}, options));
  return ENDED.has(status) ? "ended" : "running";
};
