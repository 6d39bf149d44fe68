import { readFile } from "node:fs/promises";

/** In /proc/PID/stat: clock ticks of 10 ms, behind the name in brackets: its own in user and system mode, then those of children that have ended. */
const TICK_MS = 10;
const [OWN, CHILDREN] = [11, 13];

const ticks = async (pid: number): Promise<readonly number[]> => {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields.map(Number);
};

const sumAt = (fields: readonly number[], at: number): number => ((fields[at] ?? Number.NaN) + (fields[at + 1] ?? Number.NaN)) * TICK_MS;

/** What a process has computed so far: on a machine that does other things too it says more than the time that passes. */
export const cpuMs = async (pid: number): Promise<number> => sumAt(await ticks(pid), OWN);

/** The same with that of its children, once they have ended and it has seen it. */
export const familyCpuMs = async (pid: number): Promise<number> => {
  const fields = await ticks(pid);
  return sumAt(fields, OWN) + sumAt(fields, CHILDREN);
};
