import { AssertionError } from "node:assert";
import { requireLargeDirectory } from "../../packages/formats/src/ext4/large-directory.fixture.ts";
import type { Soak } from "./main.ts";

/** One directory of so many entries: built in bounded memory, clean, and each name is found by the kernel. Needs root. */
export const soakDirectory: Soak = {
  count: 1_000_000,
  run: async (count) => {
    try {
      return { complaints: [], figures: requireLargeDirectory(count) };
    } catch (error) {
      if (!(error instanceof AssertionError)) throw error;
      return { complaints: [error.message], figures: {} };
    }
  },
};
