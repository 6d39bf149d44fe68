import { type Program, parseProgram } from "./program.ts";

/** A program that has shown a defect, with the seed of its schedule. */
export interface Kept {
  /** What Kiln did wrong. */
  readonly defect: string;
  readonly seed: number;
  readonly program: Program;
}

/** Throws a TypeError for what is none. */
export const parseKept = (value: unknown): Kept => {
  const { defect, seed, program } = value as Partial<Kept>;
  if (typeof defect !== "string" || !Number.isSafeInteger(seed)) throw new TypeError("a kept program has a defect and a seed");
  return { defect, seed: Number(seed), program: parseProgram(program) };
};
