import { ToolError } from "@kiln/std/node";
import { fuzzAgent } from "../../packages/daemon/src/agent/test-guest.ts";
import type { Soak } from "./main.ts";

const MARGIN_MS = 60_000;

/** So many seconds of hostile bytes on the agent's channel. */
export const soakAgent: Soak = {
  count: 300,
  run: async (count) => {
    try {
      await fuzzAgent(count, { signal: AbortSignal.timeout(count * 1000 + MARGIN_MS) });
      return { complaints: [], figures: {} };
    } catch (error) {
      if (!(error instanceof ToolError)) throw error;
      return { complaints: [error.stderr], figures: {} };
    }
  },
};
