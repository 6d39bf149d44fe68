import { spawn, type ChildProcess, type StdioOptions } from "node:child_process";
import { access } from "node:fs/promises";
import type { Readable, Writable } from "node:stream";
import { hasCode } from "./errno.ts";
import { Tail } from "./tail.ts";

export interface ToolOptions {
  readonly signal: AbortSignal;
  readonly cwd?: string;
  /** The whole environment; by default that of this process. */
  readonly env?: NodeJS.ProcessEnv;
  /** By default the tool reads an empty input. */
  readonly stdin?: Uint8Array;
  /** Most bytes of stdout that are kept (16 MiB by default); a tool that writes more is killed. Not with `onStdout`. */
  readonly maxOutputBytes?: number;
  /** Takes stdout in pieces instead; the tool waits while it does. */
  readonly onStdout?: (chunk: Uint8Array) => Promise<void> | void;
}

export interface ToolOutput {
  /** Empty with `onStdout`. */
  readonly stdout: Uint8Array;
  /** The last 64 KiB. */
  readonly stderr: string;
}

export interface ToolFailure {
  readonly command: string;
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
  /** "ENOENT": there is no such tool; "EACCES", …: it could not be started; "EXIT": it failed; "EOVERFLOW": it wrote too much. */
  readonly code: string;
}

/** A tool that could not be started or did not end with exit code 0. */
export class ToolError extends Error implements ToolFailure {
  override readonly name = "ToolError";
  readonly command: string;
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
  readonly code: string;

  constructor(message: string, failure: ToolFailure, options?: ErrorOptions) {
    super(message, options);
    this.command = failure.command;
    this.exitCode = failure.exitCode;
    this.signal = failure.signal;
    this.stderr = failure.stderr;
    this.code = failure.code;
  }
}

const DEFAULT_OUTPUT_BYTES = 16 * 1024 * 1024;
const KEPT_STDERR_BYTES = 64 * 1024;
/** How long a process that the tool left behind may hold the tool's output open after the tool has ended. */
const STRAGGLER_MS = 2_000;

/**
 * Runs a host tool to its end in a process group of its own. Returning means that it has stopped: on abort, on a
 * failing `onStdout` and on too much output the whole group gets SIGKILL, and the end of the
 * tool and of all who hold its output is awaited.
 * Rejects with the signal's reason, with what `onStdout` threw, or with ToolError.
 */
export async function runTool(command: string, args: readonly string[], options: ToolOptions): Promise<ToolOutput> {
  const { signal } = options;
  signal.throwIfAborted();
  if (options.cwd !== undefined) await access(options.cwd);
  signal.throwIfAborted();
  const run = new ToolRun(command, args, options);
  const kill = () => run.kill();
  signal.addEventListener("abort", kill, { once: true });
  try {
    return await run.result();
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener("abort", kill);
  }
}

class ToolRun {
  readonly #command: string;
  readonly #options: ToolOptions;
  readonly #child: ChildProcess;
  readonly #stderr = new Tail(KEPT_STDERR_BYTES);
  #abandoned = false;
  #closed = false;

  constructor(command: string, args: readonly string[], options: ToolOptions) {
    this.#command = command;
    this.#options = options;
    const { cwd, env = process.env, stdin } = options;
    const stdio: StdioOptions = [stdin === undefined ? "ignore" : "pipe", "pipe", "pipe"];
    try {
      this.#child = spawn(command, args, {
        ...(cwd === undefined ? {} : { cwd }),
        env,
        detached: true,
        stdio,
      });
    } catch (error) {
      throw this.#notStarted(error);
    }
  }

  /** Ends the whole group; after the tool's own end, whatever it left behind. */
  kill(): void {
    const { pid, exitCode, signalCode } = this.#child;
    if (pid === undefined || this.#closed) return;
    if (exitCode === null && signalCode === null) killGroup(pid);
    else this.#abandonOutput();
  }

  async result(): Promise<ToolOutput> {
    const ended = this.#ended();
    const [end, stdout, stderr, stdin] = await Promise.allSettled([
      ended,
      this.#killing(this.#readStdout()),
      this.#killing(this.#read(this.#child.stderr, (chunk) => this.#stderr.add(chunk))),
      this.#killing(feed(this.#child.stdin, this.#options.stdin)),
    ]);
    if (end.status === "rejected") throw this.#notStarted(end.reason);
    for (const part of [stdout, stderr, stdin]) if (part.status === "rejected") throw part.reason;
    const { exitCode, signal } = end.value;
    if (exitCode !== 0 || stdout.status !== "fulfilled") throw this.#failed({ exitCode, signal, code: "EXIT" });
    return { stdout: stdout.value, stderr: this.#stderr.text() };
  }

  /** Rejects if the tool could not be started; else resolves when it has ended and its output is closed. */
  #ended(): Promise<{ exitCode: number | null; signal: NodeJS.Signals | null }> {
    const child = this.#child;
    return new Promise((resolve, reject) => {
      let straggling: NodeJS.Timeout | undefined;
      child.once("error", (error) => {
        if (child.pid === undefined) reject(error);
      });
      child.once("exit", () => {
        straggling = setTimeout(() => this.#abandonOutput(), STRAGGLER_MS);
      });
      child.once("close", (exitCode, signal) => {
        clearTimeout(straggling);
        this.#closed = true;
        resolve({ exitCode, signal });
      });
    });
  }

  /** What the tool left behind holds its output open: that ends with it. */
  #abandonOutput(): void {
    this.#abandoned = true;
    if (this.#child.pid !== undefined) killGroup(this.#child.pid);
    this.#child.stdout?.destroy();
    this.#child.stderr?.destroy();
  }

  async #readStdout(): Promise<Uint8Array> {
    const { onStdout, maxOutputBytes = DEFAULT_OUTPUT_BYTES } = this.#options;
    const chunks: Uint8Array[] = [];
    let kept = 0;
    await this.#read(this.#child.stdout, async (chunk) => {
      if (onStdout !== undefined) return onStdout(chunk);
      kept += chunk.byteLength;
      if (kept > maxOutputBytes) throw this.#overflow(maxOutputBytes);
      chunks.push(chunk);
    });
    return Buffer.concat(chunks);
  }

  async #read(stream: Readable | null, take: (chunk: Uint8Array) => Promise<void> | void): Promise<void> {
    if (stream === null) return;
    const chunks: AsyncIterable<Uint8Array> = stream;
    try {
      for await (const chunk of chunks) await take(chunk);
    } catch (error) {
      if (!this.#abandoned || !hasCode(error, "ERR_STREAM_PREMATURE_CLOSE")) throw error;
    }
  }

  /** A part that fails ends the tool. */
  async #killing<T>(part: Promise<T>): Promise<T> {
    try {
      return await part;
    } catch (error) {
      this.kill();
      throw error;
    }
  }

  #overflow(maxOutputBytes: number): ToolError {
    const message = `${this.#command} wrote more than ${maxOutputBytes} bytes`;
    return new ToolError(message, { ...this.#outcome(), code: "EOVERFLOW" });
  }

  #notStarted(error: unknown): ToolError {
    const code = error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "UNKNOWN";
    return new ToolError(`${this.#command} could not be started (${code})`, { ...this.#outcome(), code }, { cause: error });
  }

  #failed(end: { exitCode: number | null; signal: NodeJS.Signals | null; code: string }): ToolError {
    const how = end.signal === null ? `failed with exit code ${end.exitCode}` : `was killed by ${end.signal}`;
    const said = this.#stderr.text().trim();
    const message = `${this.#command} ${how}${said === "" ? "" : `: ${said}`}`;
    return new ToolError(message, { ...this.#outcome(), ...end });
  }

  #outcome(): Omit<ToolFailure, "code"> {
    return { command: this.#command, exitCode: null, signal: null, stderr: this.#stderr.text() };
  }
}

function killGroup(leader: number): void {
  try {
    process.kill(-leader, "SIGKILL");
  } catch (error) {
    if (!hasCode(error, "ESRCH")) throw error;
  }
}

/** A tool need not read all of its input. */
async function feed(stream: Writable | null, bytes: Uint8Array | undefined): Promise<void> {
  if (stream === null || bytes === undefined) return;
  await new Promise<void>((resolve, reject) => {
    stream.once("error", (error) => (hasCode(error, "EPIPE", "ECONNRESET") ? resolve() : reject(error)));
    stream.once("close", resolve);
    stream.end(bytes);
  });
}
