/** Shared by the tests of the agent's host side: the sanitized agent as a process, and small runs through a session. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { fileURLToPath } from "node:url";
import { retry, systemClock } from "@kiln/std";
import { runTool } from "@kiln/std/node";
import type { AgentSession, ExecAttachment, ExecEvent, ExecStatus, GuestExec, GuestSetup } from "../vms/agent.port.ts";

const BUILD = fileURLToPath(new URL("../../../../guest/agent/build", import.meta.url));
const CORPUS = fileURLToPath(new URL("../../../../guest/agent/fuzz/corpus", import.meta.url));

export const setupOf = (change: Partial<GuestSetup> = {}): GuestSetup => ({
  modules: [],
  disks: { root: "root", writable: "writable", modules: null },
  hostname: "test",
  machineId: "0".repeat(32),
  clockNs: 0n,
  entropy: new Uint8Array(64),
  hosts: "",
  resolvConf: "",
  bootId: "11111111-2222-4333-8444-555555555555",
  network: null,
  ...change,
});

export const execSpec = (spec: Partial<GuestExec> & Pick<GuestExec, "id" | "argv">): GuestExec => ({
  env: [],
  cwd: "/tmp",
  user: "",
  tty: null,
  stdin: false,
  overflow: "block",
  ...spec,
});

export interface Collected {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: ExecStatus;
}

/** Everything that an attached command says, acknowledged as it comes. */
export const follow = async (session: AgentSession, id: string): Promise<Collected> => {
  const text = { stdout: "", stderr: "" };
  const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  await using attachment = await session.attach(id, { signal: AbortSignal.timeout(60_000) });
  for await (const event of attachment.events) {
    if (event.type === "exit") return { ...text, status: event.status };
    text[event.stream] += decoders[event.stream].decode(event.bytes, { stream: true });
    attachment.acknowledge(event.stream, event.offset + event.bytes.length);
  }
  return assert.fail(`${id} ended without an exit`);
};

/** The events of an attachment to their end, none acknowledged. */
export const eventsOf = async (attachment: ExecAttachment): Promise<ExecEvent[]> => {
  const events: ExecEvent[] = [];
  for await (const event of attachment.events) events.push(event);
  return events;
};

/** Starts a command and follows it to its end, feeding it `stdin`. */
export const collect = async (session: AgentSession, spec: GuestExec, stdin?: Uint8Array): Promise<Collected> => {
  const signal = AbortSignal.timeout(60_000);
  await session.exec(spec, { signal });
  if (stdin === undefined) return follow(session, spec.id);
  const text = { stdout: "", stderr: "" };
  await using attachment = await session.attach(spec.id, { signal });
  const writing = attachment.writeStdin(stdin, { signal }).then(() => attachment.closeStdin());
  for await (const event of attachment.events) {
    if (event.type === "exit") {
      await writing;
      return { ...text, status: event.status };
    }
    text[event.stream] += new TextDecoder().decode(event.bytes);
    attachment.acknowledge(event.stream, event.offset + event.bytes.length);
  }
  return assert.fail(`${spec.id} ended without an exit`);
};

let binary: Promise<string> | null = null;

/** The agent built with address and undefined-behaviour sanitizers, once per test process; removed at its end. */
export const testBinary = (): Promise<string> => {
  binary ??= build("--test");
  return binary;
};

/** Builds one kind of the agent ("--test", "--fuzz"; "" is the guest's) into a directory of its own. */
export const build = async (kind: string): Promise<string> => {
  const directory = await mkdtemp(join(tmpdir(), "kiln agent "));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  const out = join(directory, "agent");
  await runTool(BUILD, kind === "" ? [out] : [kind, out], { signal: AbortSignal.timeout(120_000) });
  return out;
};

/** Feeds what reads the channel with changed inputs of its corpus for so long. Throws a ToolError with the finding. */
export const fuzzAgent = async (seconds: number, options: { readonly signal: AbortSignal }): Promise<void> => {
  const binary = await build("--fuzz");
  const scratch = await mkdtemp(join(tmpdir(), "kiln-fuzz-"));
  try {
    const flags = [`-max_total_time=${seconds}`, "-max_len=40000", "-timeout=10", "-print_final_stats=0", "-verbosity=0"];
    const args = [...flags, `-artifact_prefix=${scratch}/`, scratch, CORPUS];
    await runTool(binary, args, { ...options, maxOutputBytes: 4_000_000 });
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
};

/** The sanitized agent as a process. What the sanitizers say ends it, and fails whoever disposes of it. */
export class TestAgent implements AsyncDisposable {
  readonly #directory: string;
  readonly #process: ChildProcess;
  #stderr = "";

  private constructor(directory: string, child: ChildProcess) {
    this.#directory = directory;
    this.#process = child;
    child.stderr?.on("data", (bytes) => (this.#stderr += String(bytes)));
  }

  /** "listen": every connection replaces the one before, as over vsock. "port": one stream for life, as a virtio-serial port. */
  static async start(kind: "listen" | "port" = "listen"): Promise<TestAgent> {
    const directory = await mkdtemp(join(tmpdir(), "kiln-agent-"));
    const args = kind === "listen" ? ["--listen", join(directory, "agent.sock")] : ["--port", "3"];
    const env = { ...process.env, ASAN_OPTIONS: "detect_leaks=0" };
    const child = spawn(await testBinary(), args, { stdio: ["ignore", "ignore", "pipe", kind === "listen" ? "ignore" : "pipe"], env });
    await once(child, "spawn");
    return new TestAgent(directory, child);
  }

  async dial(): Promise<net.Socket> {
    const path = join(this.#directory, "agent.sock");
    return retry(() => connectTo(path), { attempts: 100, baseMs: 10, maxMs: 50, clock: systemClock, signal: AbortSignal.timeout(10_000) });
  }

  /** The host's end of the stream of a "port" agent. */
  get port(): Duplex {
    const port = this.#process.stdio[3];
    assert.ok(port instanceof net.Socket, "this agent listens");
    return port;
  }

  get running(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  get pid(): number {
    return this.#process.pid ?? -1;
  }

  async exited(): Promise<number | null> {
    if (this.running) await once(this.#process, "exit");
    return this.#process.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.running) this.#process.kill("SIGKILL");
    await this.exited();
    await rm(this.#directory, { recursive: true, force: true });
    assert.equal(this.#stderr, "", "the agent said something");
  }
}

const connectTo = async (path: string): Promise<net.Socket> => {
  const socket = net.connect(path);
  await once(socket, "connect");
  return socket;
};
