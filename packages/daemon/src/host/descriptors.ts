import { readdir, readFile } from "node:fs/promises";
import { KilnError } from "@kiln/protocol";
import { hasCode } from "@kiln/std/node";

const FIRST_EXTRA = 3;
/** O_CLOEXEC in the `flags` of proc(5)'s fdinfo, which are octal. */
const CLOSE_ON_EXEC = 0o2000000;

/** Whether a child would inherit the descriptor that this text of /proc/PID/fdinfo describes. */
export const isInheritable = (fdinfo: string): boolean => {
  const flags = /^flags:\s*([0-7]+)$/m.exec(fdinfo)?.[1];
  if (flags === undefined) throw new KilnError("INTERNAL", `not a text of /proc/PID/fdinfo: ${JSON.stringify(fdinfo)}`);
  return (Number.parseInt(flags, 8) & CLOSE_ON_EXEC) === 0;
};

/**
 * The descriptors above 2 that whoever started this process left open, and that every child would inherit: a pipeline
 * would wait for a VM to end. Node opens all of its own close-on-exec.
 */
export const findStrayDescriptors = async (): Promise<readonly number[]> => {
  const numbers = (await readdir("/proc/self/fd")).map(Number).filter((number) => number >= FIRST_EXTRA);
  const strays = await Promise.all(numbers.map(async (number) => ((await isOpenInheritable(number)) ? [number] : [])));
  return strays.flat();
};

const isOpenInheritable = async (number: number): Promise<boolean> => {
  try {
    return isInheritable(await readFile(`/proc/self/fdinfo/${number}`, "latin1"));
  } catch (error) {
    if (hasCode(error, "ENOENT")) return false;
    throw error;
  }
};
