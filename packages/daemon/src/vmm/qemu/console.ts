import { z } from "zod";
import { VMM_LIMITS } from "../limits.ts";
import { CONSOLE_ID } from "./args.ts";
import type { QmpClient } from "./qmp.ts";

const replySchema = z.base64();

/** What the guest wrote to its console since the last call: QEMU forgets it with the reading, and the oldest of more than 64 KiB. */
export const readConsole = async (qmp: QmpClient, options: { signal: AbortSignal }): Promise<Uint8Array> => {
  const reply = await qmp.run("ringbuf-read", { device: CONSOLE_ID, size: VMM_LIMITS.consoleBytes, format: "base64" }, options);
  return Buffer.from(replySchema.parse(reply), "base64");
};
