import assert from "node:assert/strict";
import { test } from "node:test";
import type { KilnEvent, OperationView, VmView } from "@kiln/protocol";
import { type Started, TestHome, waitUntil } from "./home.ts";

const IMAGE = "deb:busybox-static";
const MEMORY_BYTES = 512 * 2 ** 20;
const count = (stopFile: string): string[] => ["busybox", "sh", "-c", `i=0; while [ ! -e ${stopFile} ]; do echo $i; i=$((i+1)); done`];

/** A reader of a counter: every number once, in order, or the difference. */
class Counter {
  readonly command: Started;
  next = 0;
  #rest = "";
  #wrong: string | null = null;

  constructor(home: TestHome, args: readonly string[]) {
    this.command = home.start(args, { watch: (text) => this.#take(text) });
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (Number(line) !== this.next) this.#wrong ??= `${line} came where ${this.next} was due`;
      this.next += 1;
    }
  }

  /** Waits for numbers that were printed after this call. */
  async goesOn(what: string): Promise<void> {
    const seen = this.next;
    await waitUntil(async () => this.#wrong !== null || this.next > seen + 2_000, `the counter ${what}`);
    assert.equal(this.#wrong, null);
  }

  /** Of one that has ended; before, the last number may have come in part. */
  requireRight(): void {
    assert.equal(this.#wrong, null);
    assert.equal(this.#rest, "");
  }
}

const followEvents = (home: TestHome): { events: KilnEvent[]; command: Started } => {
  const events: KilnEvent[] = [];
  let rest = "";
  const watch = (text: string): void => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    events.push(...lines.map((line) => JSON.parse(line) as KilnEvent));
  };
  return { events, command: home.start(["events", "--since", "0", "--json"], { watch }) };
};

const RESTARTS: readonly { readonly how: string; readonly restart: (home: TestHome) => Promise<void> }[] = [
  { how: "daemon restart", restart: async (home) => void (await home.ok("daemon", "restart")) },
  { how: "kill -9", restart: (home) => home.killDaemon() },
  {
    how: "daemon stop, daemon start",
    restart: async (home) => {
      await home.ok("daemon", "stop");
      await home.ok("daemon", "start");
    },
  },
];

test("I36 through three restarts a VM runs on, its output comes once and in order, an operation in a queue goes on under its id, and no event is lost", async () => {
  await using home = await TestHome.warm({ memory: "512m", image: IMAGE }, { KILN_MEMORY_BYTES: String(MEMORY_BYTES) });
  const from = new Date().toISOString();
  await home.ok("run", "-d", "--name", "web", IMAGE, "--", ...count("/stop-log"));
  const guestBootId = () => home.ok("exec", "web", "busybox", "cat", "/proc/sys/kernel/random/boot_id");
  const before = { vm: await home.json<VmView>("inspect", "web"), guest: await guestBootId() };
  const events = followEvents(home);
  const logs = new Counter(home, ["logs", "-f", "web"]);
  const exec = new Counter(home, ["exec", "web", ...count("/stop-exec")]);
  const begin = ["run", "-d", "--no-wait", "--json", "--name", "next", IMAGE, "--", "busybox", "sleep", "1000"];
  const queued = JSON.parse(await home.ok(...begin)) as { operation: string; joined: null };
  const inspect = () => home.json<OperationView>("op", "inspect", queued.operation);
  await waitUntil(async () => (await inspect()).state === "queued", "the queue");
  for (const { how, restart } of RESTARTS) {
    await Promise.all([logs.goesOn(`of logs before ${how}`), exec.goesOn(`of exec before ${how}`)]);
    const pid = await home.daemonPid();
    await restart(home);
    await Promise.all([logs.goesOn(`of logs after ${how}`), exec.goesOn(`of exec after ${how}`)]);
    assert.notEqual(await home.daemonPid(), pid, `${how} brought another daemon`);
    await waitUntil(async () => (await inspect()).state === "queued", `the queue after ${how}`);
  }
  const after = { vm: await home.json<VmView>("inspect", "web"), guest: await guestBootId() };
  assert.deepEqual([after.vm.bootId, after.vm.epoch, after.vm.pid, after.guest], [before.vm.bootId, 1, before.vm.pid, before.guest]);
  await home.ok("exec", "web", "busybox", "touch", "/stop-exec", "/stop-log");
  assert.equal((await exec.command.outcome).code, 0);
  assert.equal((await logs.command.outcome).code, 0);
  for (const counter of [logs, exec]) counter.requireRight();
  await home.ok("op", "watch", queued.operation);
  assert.equal((await home.json<VmView>("inspect", "next")).state, "running");
  await requireEvents(home, events, { operation: queued.operation, from });
});

/** The follower has seen what the journal says, each once; and the journal says what the restarts were. */
const requireEvents = async (
  home: TestHome,
  { events, command }: { events: KilnEvent[]; command: Started },
  { operation, from }: { readonly operation: string; readonly from: string },
): Promise<void> => {
  const journal = (await home.ok("events", "--since", "0", "--until", "now", "--json"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as KilnEvent);
  const last = journal.at(-1)?.seq ?? 0;
  await waitUntil(async () => (events.at(-1)?.seq ?? 0) >= last, "the last event");
  command.interrupt();
  assert.equal((await command.outcome).code, 130);
  assert.deepEqual(
    events.slice(0, last).map(({ seq }) => seq),
    journal.map(({ seq }) => seq),
  );
  assert.deepEqual(
    journal.map(({ seq }) => seq),
    Array.from({ length: last }, (_, index) => index + 1),
  );
  const times = (type: string, id: string) => journal.filter((event) => event.type === type && event.data["id"] === id).length;
  assert.equal(times("operation.resumed", operation), RESTARTS.length);
  assert.equal(times("operation.succeeded", operation), 1);
  assert.equal(journal.filter(({ type, subject }) => type === "vm.adopted" && subject === "web").length, RESTARTS.length);
  const started = journal.filter(({ type, time }) => type === "daemon.started" && time >= from);
  assert.equal(started.length, RESTARTS.length + 1);
};
