import { isDead } from "../world/world.ts";
import { drawProgram } from "./draw.ts";
import type { Program } from "./program.ts";
import { type Outcome, runProgram, type RunOptions } from "./run-program.ts";
import { Violation } from "./violation.ts";

/** Every failure in Kiln is somebody's: one that nobody has waited for is a defect. */
export const runGuarded = async (program: Program, seed: number, options: RunOptions = {}): Promise<Outcome> => {
  const unheard: unknown[] = [];
  const listen = (reason: unknown): void => {
    if (!isDead(reason)) unheard.push(reason);
  };
  process.on("unhandledRejection", listen);
  try {
    const outcome = await runProgram(program, seed, options);
    await new Promise((resolve) => setImmediate(resolve));
    if (outcome.failure !== null || unheard.length === 0) return outcome;
    const [first] = unheard;
    return { ...outcome, failure: new Violation("unheard", `nobody has heard of a failure: ${String(first)}`, { cause: first }) };
  } finally {
    process.off("unhandledRejection", listen);
  }
};

/** The program of a seed in the order of that seed. */
export const runSeed = (seed: number, options: RunOptions = {}): Promise<Outcome> => runGuarded(drawProgram(seed), seed, options);
