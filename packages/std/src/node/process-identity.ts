import { readFileSync, readlinkSync } from "node:fs";
import { hasCode } from "./errno.ts";

/**
 * A process, named so that no other can be mistaken for it: a pid counts only in one pid namespace of one
 * boot, and is used again there after its process has ended, but then with another start time.
 */
export interface ProcessIdentity {
  /** /proc/sys/kernel/random/boot_id. */
  readonly bootId: string;
  /** The namespace in which `pid` counts, as the link of /proc/PID/ns/pid says it: "pid:[4026531836]". */
  readonly pidNamespace: string;
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks since boot. */
  readonly startTime: string;
}

/** What a host tells of its processes, each at once: nothing is awaited between a look and a signal. */
export interface ProcessTable {
  bootId(): string;
  /** The pid namespace of whoever asks. */
  namespace(): string;
  /** null: no process has this pid. */
  stat(pid: number): ProcessStat | null;
  /** Throws ESRCH, EPERM. 0 sends nothing. */
  kill(pid: number, signal: NodeJS.Signals | 0): void;
}

/**
 * The identity of the process that has `pid` now; null if there is none or it is a zombie. `pidNamespace` is
 * that of the caller, in which it sees this pid, so that a process that leads a namespace of its own can be found again.
 */
export async function identifyProcess(pid: number, table: ProcessTable = HOST): Promise<ProcessIdentity | null> {
  const found = table.stat(pid);
  if (found === null || hasEnded(found)) return null;
  return { bootId: table.bootId(), pidNamespace: table.namespace(), pid, startTime: found.startTime };
}

/**
 * Whether that very process lives. A zombie is dead, so is every process of an earlier boot. "unknown": it
 * belongs to another pid namespace or is hidden from this user, and whoever asks must treat it as alive.
 */
export async function processState(identity: ProcessIdentity, table: ProcessTable = HOST): Promise<"alive" | "dead" | "unknown"> {
  return stateNow(identity, table);
}

/**
 * Sends the signal if that very process lives and is visible; says whether it did. Look and signal happen in
 * one turn without a wait between them: the pid would have to be freed and used again within microseconds.
 * Throws EPERM if the process belongs to someone else.
 */
export async function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals, table: ProcessTable = HOST): Promise<boolean> {
  if (stateNow(identity, table) !== "alive") return false;
  try {
    table.kill(identity.pid, signal);
    return true;
  } catch (error) {
    if (hasCode(error, "ESRCH")) return false;
    throw error;
  }
}

function stateNow(identity: ProcessIdentity, table: ProcessTable): "alive" | "dead" | "unknown" {
  if (identity.bootId !== table.bootId()) return "dead";
  if (identity.pidNamespace !== table.namespace()) return "unknown";
  const found = table.stat(identity.pid);
  if (found === null) return isHidden(identity.pid, table) ? "unknown" : "dead";
  return found.startTime === identity.startTime && !hasEnded(found) ? "alive" : "dead";
}

export interface ProcessStat {
  readonly state: string;
  /** Those that have not ended, the first among them even if it has. */
  readonly threads: number;
  readonly startTime: string;
}

/** /proc is memory: these reads never wait for a disk. */
function readStat(pid: number): ProcessStat | null {
  if (!Number.isSafeInteger(pid) || pid < 1) throw new RangeError(`${pid} is not a pid`);
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch (error) {
    if (hasCode(error, "ENOENT", "ESRCH")) return null;
    throw error;
  }
}

/** Parses /proc/PID/stat (proc(5)). The second field, the command in parentheses, may itself hold spaces and parentheses. */
export function parseStat(text: string): ProcessStat {
  const fields = text
    .slice(text.lastIndexOf(")") + 1)
    .trim()
    .split(" ");
  const [state, threads, startTime] = [fields[3 - 3], fields[20 - 3], fields[22 - 3]];
  if (!text.includes(")") || !state || startTime === undefined || !/^[0-9]+$/.test(startTime)) {
    throw new Error(`not a line of /proc/PID/stat: ${JSON.stringify(text)}`);
  }
  return { state, threads: Number(threads), startTime };
}

/** Z: a zombie, which holds its files while another of its threads still ends; X, x: gone in this moment. */
function hasEnded({ state, threads }: ProcessStat): boolean {
  return (state === "Z" && threads <= 1) || state === "X" || state === "x";
}

/** A /proc mounted with hidepid shows nothing of other users' processes; a signal would still be refused, not lost. */
function isHidden(pid: number, table: ProcessTable): boolean {
  try {
    table.kill(pid, 0);
    return false;
  } catch (error) {
    if (hasCode(error, "EPERM")) return true;
    if (hasCode(error, "ESRCH")) return false;
    throw error;
  }
}

function readBootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
}

/** Throws if /proc shows another pid namespace than the one this process lives in: no pid in it would mean anything. */
function ownNamespace(): string {
  if (readlinkSync("/proc/self") !== String(process.pid)) {
    throw new Error("/proc belongs to another pid namespace; mount the right one");
  }
  return readlinkSync("/proc/self/ns/pid");
}

const HOST: ProcessTable = {
  bootId: readBootId,
  namespace: ownNamespace,
  stat: readStat,
  kill: (pid, signal) => void process.kill(pid, signal),
};
