import { KilnError } from "@kiln/protocol/errors";
import { LIMITS } from "@kiln/protocol/limits";

/** A whole number from `min` to `max`. Throws USAGE. */
export const parseInteger = (text: string, option: string, { min, max }: { readonly min: number; readonly max: number }): number => {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max) {
    throw new KilnError("USAGE", `${option} ${text}: not a whole number from ${min} to ${max}`);
  }
  return value;
};

export const parseCpus = (text: string): number => parseInteger(text, "--cpus", { min: 1, max: LIMITS.cpus });

/** Seconds as docker gives them, in milliseconds. */
export const parseSeconds = (text: string): number => parseInteger(text, "--time", { min: 0, max: 3600 }) * 1000;
