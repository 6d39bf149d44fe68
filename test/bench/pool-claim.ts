import { setTimeout as sleep } from "node:timers/promises";
import type { Kiln } from "@kiln/sdk";
import { FreshImages, IMAGE_KINDS } from "./fresh-images.ts";
import { openHome } from "./home.ts";
import { compare, type Figure, Phases } from "./measure.ts";
import { count, startFresh } from "./start-preboot.ts";

const ROUNDS = 10;
const POOL = 2;
const GOAL_MS = 110;
const LOOK_MS = 50;
const PATIENCE_MS = 60_000;

/** The pool is full again: nobody waits for that. */
const waitUntilFull = async (kiln: Kiln): Promise<void> => {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await kiln.daemon.status()).pool.every(({ ready, wanted }) => ready === wanted)) {
    if (performance.now() > deadline) throw new Error(`the pool was not full after ${PATIENCE_MS} ms`);
    await sleep(LOOK_MS);
  }
};

/** From the request for a VM of an image that no VM has started from, to the first byte of its first command's output, where guests wait for it. */
export const benchPoolClaim = async (): Promise<Figure> => {
  await using home = await openHome({ KILN_POOL: String(POOL) });
  const { kiln } = home;
  await kiln.operations.result(await kiln.kernels.warm());
  await using images = new FreshImages(home);
  const phases = new Phases();
  const ours: { ms: number[]; failures: number } = { ms: [], failures: 0 };
  const claim = async (kind: string): Promise<number> => {
    const { reference } = await images.make(kind);
    await waitUntilFull(kiln);
    return startFresh(kiln, reference, { path: "pool", phases });
  };
  await claim("small");
  phases.clear();
  for (let round = 0; round < ROUNDS; round += 1) for (const kind of IMAGE_KINDS) await count(ours, () => claim(kind));
  return compare({ name: "pool.claim", ours, theirs: {}, details: phases.medians(""), goal: { field: "p50", max: GOAL_MS } });
};
