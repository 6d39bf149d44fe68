import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { connect } from "@kiln/sdk/node";
import { processState, signalProcess, tryLockFile, type ProcessIdentity } from "@kiln/std/node";

/** Real daemons: in this pid namespace, or as the first process of one of their own. */
const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
const START_MS = 30_000;
const skip = process.getuid?.() === 0 ? false : "needs root for a pid namespace";

interface Holder {
  readonly pid: number;
  readonly identity: ProcessIdentity;
}

class Daemon implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #said: Promise<string>;

  constructor(home: string, where: "here" | "elsewhere") {
    const [program, ...args] = [...(where === "here" ? [] : NAMESPACE), process.execPath, MAIN, "--home", home, "--driver", "fake"];
    this.child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
    this.#ended = once(this.child, "exit");
    this.#said = this.child.stderr === null ? Promise.resolve("") : text(this.child.stderr);
  }

  /** The problem that it ends with, having lost the home to another. */
  async problem(): Promise<{ readonly code: string; readonly detail: string }> {
    await this.#ended;
    const line = (await this.#said).split("\n").find((one) => one.startsWith("{")) ?? "{}";
    return JSON.parse(line) as { code: string; detail: string };
  }

  /** As a crash: what holds the namespace, and so all that is in it. */
  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

const scratchHome = async (): Promise<AsyncDisposable & { readonly path: string }> => {
  const parent = await mkdtemp(join(tmpdir(), "kiln-lock-"));
  return { path: join(parent, "home"), [Symbol.asyncDispose]: () => rm(parent, { recursive: true, force: true }) };
};

/** Who answers in the home, by the pid that it has in its own namespace. */
const answering = async (home: string): Promise<number> => {
  using kiln = connect({ home });
  const deadline = Date.now() + START_MS;
  for (;;) {
    try {
      return (await kiln.daemon.status()).pid;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }
};

const readHolder = async (home: string): Promise<Holder> => JSON.parse(await readFile(join(home, "daemon.json"), "utf8")) as Holder;

describe("I39 of two daemons on one home the second says who holds it and ends, and nothing is harmed", { skip }, () => {
  const places = [
    { first: "here", second: "here" },
    { first: "here", second: "elsewhere" },
    { first: "elsewhere", second: "here" },
    { first: "elsewhere", second: "elsewhere" },
  ] as const;
  for (const { first, second } of places) {
    test(`the first ${first}, the second ${second}`, async () => {
      await using home = await scratchHome();
      await using holder = new Daemon(home.path, first);
      const pid = await answering(home.path);
      assert.equal(pid, first === "here" ? holder.child.pid : 1, "the pid that it has where it lives");
      const before = await readdir(home.path);
      await using loser = new Daemon(home.path, second);
      const problem = await loser.problem();
      assert.equal(problem.code, "HOME_IN_USE");
      const { identity } = await readHolder(home.path);
      assert.ok(problem.detail.includes(`with pid ${pid}`), problem.detail);
      const isSeen = first === "here" && second === "here";
      assert.equal(problem.detail.includes(`in the pid namespace ${identity.pidNamespace}`), !isSeen, problem.detail);
      assert.equal(await answering(home.path), pid);
      assert.deepEqual(await readdir(home.path), before);
      assert.deepEqual(await readdir(join(home.path, "staging")), []);
    });
  }
});

test(
  "I37 a holder in another pid namespace is not provably dead and gets no signal, whatever has its pid here; its lock goes with it",
  { skip },
  async () => {
    await using home = await scratchHome();
    await using holder = new Daemon(home.path, "elsewhere");
    await answering(home.path);
    const { pid, identity } = await readHolder(home.path);
    assert.equal(pid, 1);
    assert.notEqual(identity.pidNamespace, await readlink("/proc/self/ns/pid"));
    assert.equal(await processState(identity), "unknown");
    assert.equal(await signalProcess(identity, "SIGKILL"), false);
    assert.equal(await answering(home.path), 1);
    await holder.kill();
    assert.equal(await processState(identity), "unknown", "nobody here can tell");
    // the lock can: the kernel has released it
    await using next = new Daemon(home.path, "here");
    assert.equal(await answering(home.path), next.child.pid);
    assert.equal((await readHolder(home.path)).pid, next.child.pid);
  },
);

test("a name that a dead daemon has left is not believed of the one that holds the home now", { skip }, async () => {
  await using home = await scratchHome();
  await using first = new Daemon(home.path, "here");
  await answering(home.path);
  await first.kill();
  const held = await readFile(join(home.path, "daemon.json"), "utf8");
  const { identity } = JSON.parse(held) as Holder;
  assert.equal(await processState(identity), "dead");
  const lock = tryLockFile(join(home.path, "lock.db"));
  assert.ok(lock !== null);
  await using loser = new Daemon(home.path, "here");
  const problem = await loser.problem();
  lock.release();
  assert.match(problem.detail, /another daemon that is just starting/);
});
