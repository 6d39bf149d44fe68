import { KEPT } from "../chaos/kept.ts";
import { runChaos } from "../chaos/runs.ts";
import type { Soak } from "./main.ts";

/** For each seed on the fake driver. */
const OPS = 200;
const CLIENTS = 8;

/** Random commands of many clients under faults, on the fake driver; the seeds that have found something go first. */
export const soakChaos: Soak = {
  count: 1_000,
  run: async (count, say) => {
    const how = { say, signal: new AbortController().signal };
    const requests = [
      ...KEPT.map((kept) => ({ ...kept, seeds: 1 })),
      { driver: "fake", seeds: count, first: 1, ops: OPS, clients: CLIENTS } as const,
    ];
    const complaints: string[] = [];
    const figures = { seeds: 0, nonces: 0, failed: 0 };
    for (const request of requests) {
      const { failed, ran, nonces } = await runChaos(request, how);
      figures.seeds += ran;
      figures.nonces += nonces.all;
      figures.failed += failed.length;
      complaints.push(...failed.map(({ replay, complaints: [first = ""] }) => `${replay}: ${first}`));
    }
    return { complaints, figures };
  },
};
