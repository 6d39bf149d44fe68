/** Runs a target in a process of its own and watches over it: one that hangs, grows or crashes is a finding too. */
import { fork, type ChildProcess } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, readSync, closeSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FUZZ_LIMITS } from "./limits.ts";
import { CURRENT_FILE, CURRENT_HEADER_BYTES, type Finding, type Job, type Message, type Summary } from "./messages.ts";

export interface SessionResult {
  readonly findings: readonly Finding[];
  readonly summary: Summary;
}

const NOTHING: Summary = { executions: 0, accepted: 0, seconds: 0, cpuSeconds: 0, features: 0, grown: [] };

/** The kernel's unit in /proc/PID/stat. */
const TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4096;

interface Load {
  readonly cpuMs: number;
  readonly memoryBytes: number;
}

/** null once the process is gone. */
const loadOf = (pid: number): Load | null => {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    const ticks = Number(fields[11]) + Number(fields[12]);
    return { cpuMs: (ticks * 1000) / TICKS_PER_SECOND, memoryBytes: Number(fields[21]) * PAGE_BYTES };
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ESRCH")) return null;
    throw error;
  }
};

interface Current {
  readonly execution: number;
  readonly input: Buffer;
}

const readCurrent = (scratch: string): Current => {
  const fd = openSync(join(scratch, CURRENT_FILE), "a+");
  try {
    const header = Buffer.alloc(CURRENT_HEADER_BYTES);
    readSync(fd, header, 0, CURRENT_HEADER_BYTES, 0);
    const input = Buffer.alloc(header.readUInt32LE(4));
    readSync(fd, input, 0, input.length, CURRENT_HEADER_BYTES);
    return { execution: header.readUInt32LE(0), input };
  } finally {
    closeSync(fd);
  }
};

/** Kills a process that hangs or grows; `verdict` says why. */
class Watchdog {
  verdict: { kind: "hang" | "memory"; message: string } | null = null;
  readonly #child: ChildProcess;
  readonly #scratch: string;
  readonly #timer: NodeJS.Timeout;
  #execution = -1;
  #since = { cpuMs: 0, atMs: 0 };

  constructor(child: ChildProcess, scratch: string) {
    this.#child = child;
    this.#scratch = scratch;
    this.#timer = setInterval(() => this.#look(), FUZZ_LIMITS.watchMs);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const load = this.#child.pid === undefined ? null : loadOf(this.#child.pid);
    if (load === null || this.verdict !== null) return;
    const { execution } = readCurrent(this.#scratch);
    const now = performance.now();
    if (execution !== this.#execution) {
      this.#execution = execution;
      this.#since = { cpuMs: load.cpuMs, atMs: now };
    }
    if (load.memoryBytes > FUZZ_LIMITS.memoryBytes) this.#kill("memory", `${Math.round(load.memoryBytes / 2 ** 20)} MiB are in use`);
    else if (execution === 0) return;
    else if (load.cpuMs - this.#since.cpuMs > FUZZ_LIMITS.hangCpuMs) this.#kill("hang", `${FUZZ_LIMITS.hangCpuMs} ms of CPU and no end`);
    else if (now - this.#since.atMs > FUZZ_LIMITS.hangMs) this.#kill("hang", `${FUZZ_LIMITS.hangMs} ms and no end`);
  }

  #kill(kind: "hang" | "memory", message: string): void {
    this.verdict = { kind, message };
    this.#child.kill("SIGKILL");
  }
}

const NODE_ARGUMENTS = [
  "--disable-warning=ExperimentalWarning",
  `--max-old-space-size=${FUZZ_LIMITS.heapMib}`,
  "--import",
  new URL("coverage.ts", import.meta.url).href,
];

/** Runs one process to its end. */
const runProcess = async (job: Job): Promise<SessionResult> => {
  const child = fork(new URL("process.ts", import.meta.url), [JSON.stringify(job)], {
    execArgv: NODE_ARGUMENTS,
    stdio: ["ignore", "inherit", "pipe", "ipc"],
  });
  using watchdog = new Watchdog(child, job.scratch);
  const findings: Finding[] = [];
  let summary: Summary | null = null;
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr = (stderr + text).slice(-4000)));
  child.on("message", (message: Message) => {
    if (message.type === "finding") findings.push(message.finding);
    else summary = message.summary;
  });
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  child.once("error", reject);
  child.once("close", (code, signal) => resolve(signal ?? `exit code ${code}`));
  const end = await promise;
  if (summary !== null) return { findings, summary };
  const { execution, input } = readCurrent(job.scratch);
  if (execution === 0) throw new TypeError(`the process under fuzz did not begin (${end}): ${stderr}`);
  const { kind, message } = watchdog.verdict ?? { kind: "crash" as const, message: `${end}: ${stderr.split("\n").slice(-12).join("\n")}` };
  findings.push({ kind, key: kind, message, input: input.toString("base64") });
  return { findings, summary: { ...NOTHING, executions: execution } };
};

export type SessionOptions = Omit<Job, "scratch">;

/** Replays the corpus of a target, then changes its inputs for so many seconds. Nothing is left of it but the result. */
export const runSession = async (options: SessionOptions): Promise<SessionResult> => {
  const scratch = mkdtempSync(join(tmpdir(), "kiln-fuzz-"));
  try {
    return await runProcess({ ...options, scratch });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
};
