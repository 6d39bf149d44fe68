import { readdir, readFile } from "node:fs/promises";
import { hasCode, identifyProcess, type ProcessIdentity, processState } from "@kiln/std/node";
import { parseEnvironment } from "../host/proc.ts";
import { MARKER } from "./holder.ts";

export interface NetworkProcess {
  readonly identity: ProcessIdentity;
  /** Its process group. */
  readonly group: number;
}

/**
 * The processes of a home's network: those whose environment names its directory, and those that have its MAC on their
 * command line. pasta shows its environment to root only.
 */
export const findNetworkProcesses = async (home: { directory: string; mac: string; uid: number }): Promise<readonly NetworkProcess[]> => {
  const found: NetworkProcess[] = [];
  for (const name of await readdir("/proc")) {
    const pid = Number(name);
    if (!/^[1-9][0-9]*$/.test(name) || pid === process.pid) continue;
    const identity = await identifyProcess(pid);
    if (identity === null || !(await belongsTo(pid, home))) continue;
    const group = await readGroup(pid);
    if ((await processState(identity)) === "alive") found.push({ identity, group });
  }
  return found;
};

const belongsTo = async (pid: number, { directory, mac, uid }: { directory: string; mac: string; uid: number }): Promise<boolean> => {
  const status = await read(`/proc/${pid}/status`);
  if (status === null || !new RegExp(`^Uid:\\t${uid}\\t`, "m").test(status)) return false;
  if (((await read(`/proc/${pid}/cmdline`)) ?? "").split("\0").includes(mac)) return true;
  const environment = await read(`/proc/${pid}/environ`);
  return environment !== null && parseEnvironment(Buffer.from(environment, "latin1")).get(MARKER) === directory;
};

/** Field 5 of /proc/PID/stat, counted after the last parenthesis of the command's name (proc(5)); 0 where it has ended. */
const readGroup = async (pid: number): Promise<number> => {
  const stat = (await read(`/proc/${pid}/stat`)) ?? "";
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[2] ?? 0);
};

const read = async (path: string): Promise<string | null> => {
  try {
    return await readFile(path, "latin1");
  } catch (error) {
    if (hasCode(error, "ENOENT", "ESRCH", "EACCES", "EPERM")) return null;
    throw error;
  }
};
