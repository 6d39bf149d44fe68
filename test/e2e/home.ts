import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { identifyProcess, processState, signalProcess } from "@kiln/std/node";
import { copyWarmHome, type WarmHome } from "./warm-home.ts";

const KILN = fileURLToPath(new URL("../../kiln", import.meta.url));

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Started {
  readonly outcome: Promise<Outcome>;
  /** Ctrl-C. */
  interrupt(): void;
}

export interface RunOptions {
  readonly input?: string;
  /** Sees standard output as it comes, which is then not kept. */
  readonly watch?: (text: string) => void;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** A program and its arguments that become `kiln`: into other namespaces, for example. */
  readonly wrapper?: readonly string[];
  /** Kills it. */
  readonly signal?: AbortSignal;
}

/** A home of the test's own, driven through the command line as a user would; disposing of it stops its daemon and VMs. */
export class TestHome implements AsyncDisposable {
  readonly path: string;
  readonly #env: Readonly<Record<string, string>>;
  /** What was made for it and goes with it. */
  readonly #parent: string | null;

  private constructor(path: string, options: { parent?: string; env?: Readonly<Record<string, string>> } = {}) {
    this.path = path;
    this.#parent = options.parent ?? null;
    this.#env = options.env ?? {};
  }

  /** A home in a place that the caller made and removes. */
  static at(path: string, env: Readonly<Record<string, string>> = {}): TestHome {
    return new TestHome(path, { env });
  }

  /** `suffix` is appended to the directory's name, for homes with long names and spaces. */
  static async create(suffix = "", env: Readonly<Record<string, string>> = {}): Promise<TestHome> {
    const parent = await mkdtemp(join(tmpdir(), "kiln-e2e-"));
    return new TestHome(join(parent, `home${suffix}`), { parent, env });
  }

  /** A home that has a kernel set already, and a snapshot and an image, for tests that are not about how these are made. */
  static async warm(warm: WarmHome, env: Readonly<Record<string, string>> = {}): Promise<TestHome> {
    const home = await TestHome.create("", env);
    await copyWarmHome(home.path, warm, TestHome.at);
    return home;
  }

  /** Runs `kiln ARGS` to its end. */
  async kiln(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    return this.start(args, options).outcome;
  }

  /** Starts `kiln ARGS`. */
  start(args: readonly string[], options: RunOptions = {}): Started {
    const [program = KILN, ...rest] = [...(options.wrapper ?? []), KILN, ...args];
    const child = spawn(program, rest, {
      env: { ...process.env, KILN_HOME: this.path, ...this.#env, ...options.env },
      cwd: options.cwd ?? tmpdir(),
      stdio: "pipe",
    });
    child.stdin.on("error", () => undefined); // a command that ends without reading its input
    child.stdin.end(options.input ?? "");
    const stdout = options.watch === undefined ? collect(child.stdout) : pass(child.stdout, options.watch);
    const stderr = collect(child.stderr);
    const { promise, resolve } = Promise.withResolvers<number>();
    const kill = (): void => void child.kill("SIGKILL");
    if (options.signal?.aborted === true) kill();
    options.signal?.addEventListener("abort", kill, { once: true });
    child.once("close", (code, signal) => {
      options.signal?.removeEventListener("abort", kill);
      resolve(code ?? (signal === null ? -1 : 128));
    });
    const outcome = async (): Promise<Outcome> => ({ code: await promise, stdout: await stdout, stderr: await stderr });
    return { outcome: outcome(), interrupt: () => void child.kill("SIGINT") };
  }

  /** Runs it and expects exit code 0. */
  async ok(...args: string[]): Promise<string> {
    const outcome = await this.kiln(args);
    assert.equal(outcome.code, 0, `kiln ${args.join(" ")} exited with ${outcome.code}: ${outcome.stderr}`);
    return outcome.stdout;
  }

  /** The one JSON value that a command prints. */
  async json<Value>(...args: string[]): Promise<Value> {
    return JSON.parse(await this.ok(...args, "--json")) as Value;
  }

  async daemonPid(): Promise<number> {
    return (await this.json<{ pid: number }>("daemon", "status")).pid;
  }

  /** What the daemons of this home have written. */
  async daemonLog(): Promise<string> {
    return readFile(join(this.path, "daemon.log"), "utf8");
  }

  /** Ends the daemon as a crash would. */
  async killDaemon(): Promise<void> {
    const daemon = await identifyProcess(await this.daemonPid());
    assert.ok(daemon !== null && (await signalProcess(daemon, "SIGKILL")));
    // not when its command line is gone, which goes with its first thread: another may still hold its sockets
    await waitUntil(async () => (await processState(daemon)) === "dead", "the daemon's end");
  }

  /** Pids of processes that carry this home's path in their environment or command line. */
  async processes(): Promise<number[]> {
    const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
    const mine = await Promise.all(pids.map(async (pid) => (pid !== process.pid && (await mentions(pid, this.path)) ? [pid] : [])));
    return mine.flat();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const vms = await this.kiln(["ps", "-aq"]);
    const ids = vms.stdout.split("\n").filter((id) => id !== "");
    if (ids.length > 0) await this.kiln(["rm", "-f", ...ids]);
    await this.kiln(["daemon", "stop"]);
    if (this.#parent !== null) await rm(this.#parent, { recursive: true, force: true });
  }
}

/** Who asks by the command line takes a CPU from what it waits for: it asks often at first, and less and less. */
const POLL = { firstMs: 25, growth: 1.2, mostMs: 200 };

export const waitUntil = async (condition: () => Promise<boolean>, what: string): Promise<void> => {
  const deadline = Date.now() + 60_000;
  for (let pauseMs = POLL.firstMs; !(await condition()); pauseMs = Math.min(pauseMs * POLL.growth, POLL.mostMs)) {
    assert.ok(Date.now() < deadline, `waited 60 s in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
};

const mentions = async (pid: number, path: string): Promise<boolean> => {
  const read = (name: string): Promise<string> => readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "");
  return (await read("cmdline")).includes(path) || (await read("environ")).includes(`KILN_DIR=${path}`);
};

const pass = async (stream: NodeJS.ReadableStream, watch: (text: string) => void): Promise<string> => {
  stream.setEncoding("utf8");
  for await (const text of stream) watch(String(text));
  return "";
};

const collect = async (stream: NodeJS.ReadableStream): Promise<string> => {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk as Uint8Array));
  return Buffer.concat(chunks).toString("utf8");
};
