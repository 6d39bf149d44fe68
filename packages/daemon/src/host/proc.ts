import { readdir, readFile, readlink } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { hasCode, identifyProcess, processState, type ProcessIdentity, signalProcess } from "@kiln/std/node";
import type { Clock } from "@kiln/std";

/** How often a process that is not our child is looked at while its end is awaited. */
const LOOK_MS = 20;
/** One read of /proc/PID/environ is longer than any environment that a VMM is given. */
const ENVIRONMENT_BYTES = 64 * 1024;
/** A process that is becoming another program shows no environment for a moment: how often, and after how long, it is read again. */
const READS = 6;
const READ_AGAIN_MS = 2;

export interface MarkedProcess {
  readonly identity: ProcessIdentity;
  readonly environment: ReadonlyMap<string, string>;
}

/** The environment that /proc/PID/environ shows: what the process was started with. NAME=VALUE, each ended by a NUL (proc(5)). */
export const parseEnvironment = (bytes: Uint8Array): ReadonlyMap<string, string> => {
  const lines = new TextDecoder().decode(bytes.subarray(0, ENVIRONMENT_BYTES)).split("\0");
  return new Map(
    lines.flatMap((line) => {
      const at = line.indexOf("=");
      return at > 0 ? [[line.slice(0, at), line.slice(at + 1)] as const] : [];
    }),
  );
};

/** The processes whose environment `matches`, this one excepted. Those that cannot be read belong to someone else. */
export const findProcesses = async (matches: (environment: ReadonlyMap<string, string>) => boolean): Promise<readonly MarkedProcess[]> => {
  const found: MarkedProcess[] = [];
  for (const name of await readdir("/proc")) {
    const pid = Number(name);
    if (!/^[1-9][0-9]*$/.test(name) || pid === process.pid) continue;
    const identity = await identifyProcess(pid);
    const environment = identity === null ? null : await readEnvironment(pid);
    if (identity === null || environment === null || !matches(environment)) continue;
    // The environment was read of the process that still has the pid: start time before and after are the same.
    if ((await processState(identity)) === "alive") found.push({ identity, environment });
  }
  return found;
};

const readEnvironment = async (pid: number): Promise<ReadonlyMap<string, string> | null> => {
  try {
    // Threads of the kernel have no program: reading the link fails for them with ENOENT.
    await readlink(`/proc/${pid}/exe`);
    for (let read = 1; ; read += 1) {
      const bytes = await readFile(`/proc/${pid}/environ`);
      if (bytes.byteLength > 0 || read === READS) return parseEnvironment(bytes);
      await sleep(READ_AGAIN_MS);
    }
  } catch (error) {
    if (hasCode(error, "ENOENT", "ESRCH", "EACCES", "EPERM")) return null;
    throw error;
  }
};

/** Resolves when that very process is gone; one that another pid namespace hides counts as there. Rejects with the signal's reason. */
export const waitUntilGone = async (
  identity: ProcessIdentity,
  options: { clock: Clock; signal: AbortSignal; lookMs?: number },
): Promise<void> => {
  while ((await processState(identity)) !== "dead") await options.clock.sleep(options.lookMs ?? LOOK_MS, options);
};

/** SIGKILLs that very process, never another one with its pid, and waits until it is gone. Says whether it was there. */
export const endProcess = async (identity: ProcessIdentity, options: { clock: Clock; signal: AbortSignal }): Promise<boolean> => {
  const wasThere = await signalProcess(identity, "SIGKILL");
  if (wasThere) await waitUntilGone(identity, options);
  return wasThere;
};
