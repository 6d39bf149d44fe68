import { spawn, type ChildProcess } from "node:child_process";
import { open, type FileHandle } from "node:fs/promises";
import { getCompileCacheDir } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { hasErrno } from "../errno.ts";
import { KilnError, parseProblem } from "@kiln/protocol/errors";

export interface DaemonSpawn {
  readonly home: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** A path or a file URL. */
  readonly entry: string;
}

/** The most of a log that is read to say why a daemon did not start. */
const LOG_TAIL_BYTES = 16_384;
const LOG_TAIL_LINES = 8;

/** A daemon that this process has started: in its own session, its output in the home's daemon.log. */
export class DaemonProcess {
  readonly #child: ChildProcess;
  readonly #logPath: string;
  readonly #logOffset: number;
  readonly #home: string;
  #spawnError: Error | null = null;

  private constructor(child: ChildProcess, log: { readonly path: string; readonly offset: number }, home: string) {
    this.#child = child;
    this.#logPath = log.path;
    this.#logOffset = log.offset;
    this.#home = home;
    child.on("error", (error) => {
      this.#spawnError = error;
    });
  }

  /** Throws PERMISSION_DENIED, DISK_FULL or the like if the log cannot be written. */
  static async spawn({ home, env, entry }: DaemonSpawn): Promise<DaemonProcess> {
    const path = join(home, "daemon.log");
    await using log = await openLog(path, home);
    const { size: offset } = await log.stat();
    const program = entry.startsWith("file:") ? fileURLToPath(entry) : entry;
    const cache = getCompileCacheDir();
    const child = spawn(process.execPath, [program, "--home", home], {
      cwd: "/",
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
      env: cache === undefined ? env : { ...env, NODE_COMPILE_CACHE: cache },
    });
    child.unref();
    return new DaemonProcess(child, { path, offset }, home);
  }

  get hasEnded(): boolean {
    return this.#spawnError !== null || this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** It has ended, and not by itself. */
  get wasKilled(): boolean {
    return this.#child.signalCode !== null;
  }

  /** Lets the daemon be. */
  leave(): void {
    this.#child.removeAllListeners();
  }

  /** Why it ended: its own problem if it wrote one, else its last words. */
  async error(): Promise<KilnError> {
    const lines = await this.#lines();
    const problems = lines.flatMap(problemIn);
    const own = problems.findLast((problem) => problem.code !== "HOME_IN_USE") ?? problems.at(-1);
    if (own !== undefined) return own;
    const how = this.#child.signalCode ?? `exit code ${this.#child.exitCode ?? "unknown"}`;
    return this.#unreachable(`the daemon of ${this.#home} ended as it started (${how})`, lines);
  }

  /** That it runs, but does not answer. */
  async timeoutError(socketPath: string): Promise<KilnError> {
    return this.#unreachable(`the daemon was started, but does not answer on ${socketPath}`, await this.#lines());
  }

  #unreachable(message: string, lines: readonly string[]): KilnError {
    return new KilnError("DAEMON_UNREACHABLE", message, {
      cause: this.#spawnError ?? undefined,
      object: this.#home,
      hint: `see ${this.#logPath}`,
      remoteCauses: lines.slice(-LOG_TAIL_LINES),
    });
  }

  /** What was logged since the start, or the end of it. */
  async #lines(): Promise<string[]> {
    await using log = await open(this.#logPath, "r");
    const { size } = await log.stat();
    const from = Math.max(this.#logOffset, size - LOG_TAIL_BYTES);
    const buffer = new Uint8Array(Math.max(0, size - from));
    const { bytesRead } = await log.read(buffer, 0, buffer.length, from);
    return new TextDecoder()
      .decode(buffer.subarray(0, bytesRead))
      .split("\n")
      .filter((line) => line.trim() !== "");
  }
}

const openLog = async (path: string, home: string): Promise<FileHandle> => {
  try {
    return await open(path, "a", 0o600);
  } catch (cause) {
    if (hasErrno(cause, "EACCES", "EPERM", "EROFS"))
      throw new KilnError("PERMISSION_DENIED", `no permission to write ${path}`, { cause, object: home });
    throw cause;
  }
};

/** The problem that a line of the log is, if it is one. */
const problemIn = (line: string): KilnError[] => {
  if (!line.startsWith("{") || !line.includes("urn:kiln:error:")) return [];
  try {
    return [parseProblem(JSON.parse(line))];
  } catch (error) {
    if (error instanceof SyntaxError) return []; // cut off at the tail's beginning
    throw error;
  }
};
