import { runGuarded } from "./guarded.ts";
import type { Program } from "./program.ts";
import type { RunOptions } from "./run-program.ts";
import { shrink } from "./shrink.ts";
import { checkOf } from "./violation.ts";

/** A smaller program has another schedule under its seed: some are tried. */
const SEEDS_EACH = 12;

/** A program that fails, with the seed of a schedule in which it does. */
export interface FailingProgram {
  readonly check: string;
  readonly seed: number;
  readonly program: Program;
}

/** The smallest program found that fails in the same check, with a seed that shows it. */
export const findShrunken = async (
  { check, seed, program }: FailingProgram,
  options: RunOptions & { readonly tries?: number } = {},
): Promise<FailingProgram> => {
  let found = seed;
  const fails = async (candidate: Program): Promise<boolean> => {
    for (const one of [found, ...Array.from({ length: SEEDS_EACH }, (_, index) => index + 1)]) {
      const { failure } = await runGuarded(candidate, one, options);
      if (failure === null || checkOf(failure) !== check) continue;
      found = one;
      return true;
    }
    return false;
  };
  const shrunken = await shrink(program, fails, options.tries);
  return { check, seed: found, program: shrunken };
};
