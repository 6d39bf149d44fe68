import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { CreateVmRequest } from "@kiln/protocol";
import { Semaphore } from "@kiln/std";
import { CACHE } from "../home.ts";
import type { ClientReport } from "./arithmetic.ts";

const CLIENT = fileURLToPath(new URL("client.ts", import.meta.url));
/** Node processes that come up at once: more would only wait for each other's cores. */
const STARTING = 8;

/**
 * Clients that stand ready, each a process with its code loaded and nothing asked for: what a process costs to start is paid before the clock
 * runs, a few at a time, and the daemon then gets all requests within the time that so many processes take to write one.
 */
export class Crowd implements AsyncDisposable {
  readonly #clients: readonly Client[];
  /** How long it took until the last stood ready. */
  readonly readyMs: number;

  private constructor(clients: readonly Client[], readyMs: number) {
    this.#clients = clients;
    this.readyMs = readyMs;
  }

  static async gather(count: number, { home, request }: { readonly home: string; readonly request: CreateVmRequest }): Promise<Crowd> {
    const began = performance.now();
    const places = new Semaphore(STARTING);
    const { signal } = new AbortController();
    const clients = Array.from({ length: count }, async () => {
      using _place = await places.acquire({ signal });
      const client = new Client([home, JSON.stringify(request)]);
      await client.ready();
      return client;
    });
    return new Crowd(await Promise.all(clients), performance.now() - began);
  }

  get pids(): readonly number[] {
    return this.#clients.map(({ pid }) => pid);
  }

  /** All of them at once; in the order in which they were gathered. */
  async go(): Promise<readonly ClientReport[]> {
    for (const client of this.#clients) client.go();
    return Promise.all(this.#clients.map((client) => client.report()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.end()));
  }
}

class Client {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  readonly #closed: Promise<unknown>;
  #said = "";

  constructor(args: readonly string[]) {
    const env = { ...process.env, NODE_COMPILE_CACHE: join(CACHE, "compile") };
    this.#child = spawn(process.execPath, [CLIENT, ...args], { env, stdio: "pipe" });
    this.#child.stdin.on("error", () => undefined); // a client that has ended says why in its report
    this.#child.stderr.setEncoding("utf8").on("data", (text: string) => (this.#said += text));
    this.#closed = once(this.#child, "close");
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  get pid(): number {
    return this.#child.pid ?? Number.NaN;
  }

  async #line(): Promise<string> {
    const next: IteratorResult<string, unknown> = await this.#lines.next();
    if (next.done === true) throw new Error(`a client ended without a word: ${this.#said}`);
    return next.value;
  }

  async ready(): Promise<void> {
    await this.#line();
  }

  go(): void {
    this.#child.stdin.write("go\n");
  }

  async report(): Promise<ClientReport> {
    try {
      return JSON.parse(await this.#line()) as ClientReport;
    } catch (error) {
      return { ms: Number.NaN, cpuMs: 0, outputMs: null, failure: "the client's process", detail: String(error), operations: [] };
    }
  }

  async end(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill();
    await this.#closed;
  }
}
