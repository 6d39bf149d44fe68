import { runBatch } from "../sim/programs/batch.ts";
import type { Soak } from "./main.ts";

const WORKERS = 2;
/** A million seeds each: CI runs those before. */
const FIRST = 1_000_000;
const SHARE = 5_000;

/** Random programs in random orders: none breaks an invariant. Each soak runs the same seeds; `npm run sim -- --first S` runs others. */
export const soakSimulation: Soak = {
  count: 100_000,
  run: async (count, say) => {
    const complaints: string[] = [];
    let [steps, crashes] = [0, 0];
    for (let done = 0; done < count; done += SHARE) {
      const result = await runBatch({ first: FIRST + done, count: Math.min(SHARE, count - done), workers: WORKERS });
      steps += result.steps;
      crashes += result.crashes;
      complaints.push(...result.findings.map(({ seed, check, message }) => `seed ${seed}: ${check}: ${message}`));
      say(`${done + result.schedules} of ${count} schedules, ${complaints.length} failures`);
    }
    return { complaints, figures: { steps, crashes } };
  },
};
