import type { ChaosRequest } from "./runs.ts";

/**
 * Seeds that have found something, with what it was. Each has a narrower test as well; `npm run chaos -- --kept` and
 * `npm run soak -- chaos` run them again.
 */
export const KEPT: readonly (Omit<ChaosRequest, "seeds"> & { readonly found: string })[] = [
  {
    ...{ driver: "fake", first: 101, ops: 200, clients: 8 },
    found: "an exec id that was asked for again after its end had been delivered ran twice (operations/lifecycle.test.ts)",
  },
  {
    ...{ driver: "fake", first: 119, ops: 200, clients: 8 },
    found: "an operation whose end a full disk did not take stayed running for all who came later (operations/operations.test.ts)",
  },
  {
    ...{ driver: "fake", first: 1010, ops: 200, clients: 8 },
    found: "a deletion that a full disk kept from its end failed as INTERNAL, and not as DISK_FULL",
  },
];
