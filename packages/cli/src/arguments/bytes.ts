import { KilnError } from "@kiln/protocol/errors";
import { LIMITS } from "@kiln/protocol/limits";

const POWERS: Readonly<Record<string, number>> = { "": 0, b: 0, k: 1, m: 2, g: 3, t: 4 };

/** docker's sizes: a number with b, k, m, g or t, in steps of 1024; "MiB" and "mb" say the same. Throws USAGE. */
export const parseBytes = (text: string, option: string): number => {
  const match = /^(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?$/i.exec(text.trim());
  const bytes = Number(match?.[1]) * 1024 ** (POWERS[match?.[2]?.toLowerCase() ?? ""] ?? 0);
  if (match === null || !Number.isSafeInteger(bytes) || bytes <= 0) {
    throw new KilnError("USAGE", `${option} ${text}: not a size; write for example 512m or 2g`);
  }
  return bytes;
};

const inMiB = (bytes: number): string => `${bytes / 2 ** 20}m`;

/** Throws USAGE with the nearest size that would do. */
export const parseMemory = (text: string): number => {
  const bytes = parseBytes(text, "--memory");
  const { memoryBytesMin: min, memoryBytesMax: max, memoryStepBytes: step } = LIMITS;
  if (bytes < min || bytes > max) throw new KilnError("USAGE", `--memory ${text}: a VM has ${inMiB(min)} to ${inMiB(max)}`);
  if (bytes % step !== 0) {
    throw new KilnError(
      "USAGE",
      `--memory ${text}: memory comes in steps of ${inMiB(step)}; ${inMiB(Math.ceil(bytes / step) * step)} would do`,
    );
  }
  return bytes;
};

/** A disk has whole blocks of 4 KiB. Throws USAGE. */
export const parseDisk = (text: string): number => {
  const bytes = parseBytes(text, "--disk");
  const { diskBytesMin: min, diskBytesMax: max } = LIMITS;
  if (bytes < min || bytes > max) throw new KilnError("USAGE", `--disk ${text}: a disk has ${inMiB(min)} to ${max / 2 ** 40}t`);
  return Math.ceil(bytes / 4096) * 4096;
};
