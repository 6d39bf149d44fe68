import { readFile } from "node:fs/promises";
import { errnoOf } from "@kiln/protocol/errors";

const KIB_PER_MIB = 1024;

/** A line of /proc/PID/smaps_rollup or /proc/PID/status, in MiB. */
export const readMib = async (path: string, name: string): Promise<number> => {
  const found = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(await readFile(path, "utf8"));
  if (found === null) throw new Error(`${path} has no ${name}`);
  return Number(found[1]) / KIB_PER_MIB;
};

/** What a process holds of the host's memory, pages that it shares in parts; null where it has ended meanwhile. */
export const pssMib = async (pid: number): Promise<number | null> => {
  try {
    return await readMib(`/proc/${pid}/smaps_rollup`, "Pss");
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOENT" || errno === "ESRCH") return null;
    throw error;
  }
};
