import { z } from "zod";

/** `ClientMessage` of streams.ts, parsed at the daemon's edge. */
export const clientMessage = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("ack"), stream: z.enum(["stdout", "stderr"]), offset: z.int().min(0) }),
  z.strictObject({ type: z.literal("resize"), rows: z.int().min(1).max(65535), cols: z.int().min(1).max(65535) }),
  z.strictObject({ type: z.literal("signal"), signal: z.string().regex(/^SIG[A-Z0-9+-]{2,12}$/) }),
  z.strictObject({ type: z.literal("stdin-end") }),
]);
