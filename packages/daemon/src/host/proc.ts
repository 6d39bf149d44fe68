import { closeSync, openSync, readSync } from "node:fs";
import { readdir, readlink } from "node:fs/promises";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { hasCode, identifyProcess, processState, type ProcessIdentity, signalProcess } from "@kiln/std/node";
import type { Clock } from "@kiln/std";

/** How often a process that is not our child is looked at while its end is awaited. */
const LOOK_MS = 20;
/** One read of /proc/PID/environ is longer than any environment that a VMM is given. */
const ENVIRONMENT_BYTES = 64 * 1024;
/** A process that is becoming another program shows no environment for a moment: how often, and after how long, it is read again. */
const READS = 6;
const READ_AGAIN_MS = 2;
/** Others have their turn after so many processes. */
const PROCESSES_A_TURN = 64;

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
  for (const [at, name] of (await readdir("/proc")).entries()) {
    const pid = Number(name);
    if (!/^[1-9][0-9]*$/.test(name) || pid === process.pid) continue;
    if (at % PROCESSES_A_TURN === 0) await nextTurn();
    // most are somebody else's: they cost one read
    if (!isMatch(await readEnvironment(pid), matches)) continue;
    const identity = await identifyProcess(pid);
    const environment = identity === null ? null : await readEnvironment(pid);
    if (identity === null || environment === null || !matches(environment)) continue;
    // The environment was read of the process that still has the pid: start time before and after are the same.
    if ((await processState(identity)) === "alive") found.push({ identity, environment });
  }
  return found;
};

type Environment = ReadonlyMap<string, string>;
const isMatch = (environment: Environment | null, matches: (environment: Environment) => boolean): boolean =>
  environment !== null && matches(environment);

/** null for what has no program (threads of the kernel, what has ended) and for what is somebody else's. */
const readEnvironment = async (pid: number): Promise<Environment | null> => {
  try {
    for (let read = 1; ; read += 1) {
      const bytes = readEnvironmentNow(pid);
      if (bytes.byteLength > 0) return parseEnvironment(bytes);
      // reading the link of what has no program fails with ENOENT
      await readlink(`/proc/${pid}/exe`);
      if (read === READS) return parseEnvironment(bytes);
      await sleep(READ_AGAIN_MS);
    }
  } catch (error) {
    if (hasCode(error, "ENOENT", "ESRCH", "EACCES", "EPERM")) return null;
    throw error;
  }
};

/** /proc is memory: in a turn of its own each read would wait for a thread longer than it takes. */
const readEnvironmentNow = (pid: number): Uint8Array => {
  const file = openSync(`/proc/${pid}/environ`, "r");
  try {
    return ENVIRONMENT.subarray(0, readSync(file, ENVIRONMENT));
  } finally {
    closeSync(file);
  }
};

/** Used within one turn. */
const ENVIRONMENT = Buffer.alloc(ENVIRONMENT_BYTES);

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
