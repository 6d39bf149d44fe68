/** Daemons that end and begin, with VMs that run on. */
import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { DaemonStatus, KilnEvent, OperationView, VmView } from "@kiln/protocol";
import { waitUntil } from "../../e2e/home.ts";
import type { Cli } from "../cli.ts";
import { guest, IMAGE, MEMORY, MEMORY_BYTES, shell, SLEEP } from "../guests.ts";
import { global, type Scenario } from "../scenario.ts";

const inspect = (kiln: Cli, name: string): Promise<VmView> => kiln.json<VmView>("inspect", name);

const requireCounted = (text: string, atLeast: number): void => {
  const lines = text.trimEnd().split("\n").map(Number);
  assert.deepEqual(
    lines,
    lines.map((_, index) => index + 1),
  );
  assert.ok(lines.length >= atLeast, `${lines.length} lines`);
};

export const DAEMONS: readonly Scenario[] = [
  global("first-run", "I1 four runs at once on an empty home: one daemon, one pull, one kernel, and all four print", async ({ home }) => {
    const kiln = await home({ from: "empty" });
    const runs = await Promise.all(Array.from({ length: 4 }, () => kiln.run(["run", "--rm", IMAGE, "busybox", "echo", "hi"])));
    assert.deepEqual(
      runs.map(({ code, stdout }) => [code, stdout]),
      runs.map(() => [0, "hi\n"]),
    );
    const operations = await kiln.json<OperationView[]>("op", "ls", "-a");
    for (const wanted of ["image.pull", "rootfs.build", "kernel.build"]) {
      const made = operations.filter(({ kind, state, joined }) => kind === wanted && state === "succeeded" && joined === null);
      assert.equal(made.length, 1, `${wanted} ran ${made.length} times`);
    }
    assert.deepEqual(await kiln.json("ps", "-a"), []);
    assert.equal((await stat(kiln.home.path)).mode & 0o777, 0o700);
    assert.equal((await stat(join(kiln.home.path, "kiln.sock"))).mode & 0o777, 0o600);
  }),

  global(
    "daemon-stop",
    "I36 daemon stop leaves VMs running; the next command starts a daemon that has them, in the same boot",
    async ({ home }) => {
      const kiln = await home({ from: "prepared" });
      await kiln.ok("run", "-d", "--name", "web", ...guest("-p", "80"), ...SLEEP);
      const before = await inspect(kiln, "web");
      await kiln.ok("daemon", "stop");
      await kiln.exits(3, ["daemon", "status"]);
      assert.equal((await kiln.run(["daemon", "status", "--json"])).stdout.includes('"running":false'), true);
      const after = await inspect(kiln, "web");
      assert.deepEqual([after.state, after.pid, after.bootId, after.epoch], ["running", before.pid, before.bootId, 1]);
      assert.deepEqual(after.network.ports, before.network.ports);
      assert.equal(await kiln.ok("exec", "web", "busybox", "echo", "there"), "there\n");
    },
  ),

  global(
    "daemon-killed",
    "I26 I36 through kill -9 of the daemon a VM runs on, its log has every line once, and an exec goes on and ran once",
    async ({ home }) => {
      const kiln = await home({ from: "prepared" });
      const counting = "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; busybox usleep 20000; done";
      await kiln.ok("run", "-d", "--name", "counter", ...guest(), ...shell(counting));
      const before = await inspect(kiln, "counter");
      const follower = kiln.start(["logs", "-f", "counter"]);
      const script = "echo ran >> /ran; while [ ! -e /stop ]; do busybox usleep 20000; done; exit 8";
      const held = kiln.start(["exec", "counter", ...shell(script)]);
      const ran = async (): Promise<string> => (await kiln.run(["exec", "counter", "busybox", "cat", "/ran"])).stdout;
      await waitUntil(async () => (await ran()) === "ran\n", "the exec");
      await kiln.home.killDaemon();
      const after = await inspect(kiln, "counter");
      assert.deepEqual([after.state, after.pid, after.bootId, after.epoch], ["running", before.pid, before.bootId, 1]);
      await kiln.ok("exec", "counter", "busybox", "touch", "/stop");
      assert.equal((await held.outcome).code, 8);
      const { code, stdout } = await follower.outcome;
      assert.equal(code, 0);
      requireCounted(stdout, 10);
      assert.equal(stdout, await kiln.ok("logs", "counter"));
      const adopted = await kiln.lines<KilnEvent>("events", "--since", "0", "--until", "now", "--filter", "type=vm.adopted");
      assert.equal(adopted.length, 1);
    },
  ),

  global(
    "daemon-restart",
    "I36 daemon restart: a foreground run does not notice, and an operation in a queue goes on under its id",
    async ({ home }) => {
      const kiln = await home({ from: "prepared", env: { KILN_MEMORY_BYTES: String(2 * MEMORY_BYTES) } });
      await kiln.ok("run", "-d", "--name", "fills", ...guest(), ...SLEEP);
      const script = "i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo $i; busybox usleep 20000; done; exit 5";
      const running = kiln.start(["run", "--rm", "--name", "front", ...guest(), ...shell(script)]);
      await waitUntil(async () => (await kiln.run(["logs", "front"])).stdout.includes("5\n"), "the first numbers");
      const queued = await kiln.json<{ operation: string }>("run", "-d", "--no-wait", "--name", "next", ...guest(), ...SLEEP);
      await kiln.ok("daemon", "restart");
      const { code, stdout } = await running.outcome;
      assert.equal(code, 5);
      requireCounted(stdout, 100);
      await kiln.ok("op", "watch", queued.operation);
      assert.equal((await inspect(kiln, "next")).state, "running");
    },
  ),

  global(
    "capacity-queue",
    "where memory is short the next VM waits, visibly and in its turn, and starts when another goes; Ctrl-C leaves the queue",
    async ({ home }) => {
      const kiln = await home({ from: "prepared", env: { KILN_MEMORY_BYTES: String(MEMORY_BYTES) } });
      await kiln.ok("run", "-d", "--name", "first", ...guest(), ...SLEEP);
      const begin = async (name: string): Promise<string> =>
        (await kiln.json<{ operation: string }>("run", "-d", "--no-wait", "--name", name, ...guest(), ...SLEEP)).operation;
      const position = async (id: string): Promise<number | null> => (await kiln.json<OperationView>("op", "inspect", id)).position;
      const second = await begin("second");
      await waitUntil(async () => (await position(second)) === 1, "the second's place");
      const third = kiln.start(["run", "-d", "--name", "third", ...guest(), ...SLEEP]);
      const waiting = async (): Promise<number> => (await kiln.json<DaemonStatus>("daemon", "status")).capacity.waiting;
      await waitUntil(async () => (await waiting()) === 2, "the third in the queue");
      third.interrupt();
      assert.equal((await third.outcome).code, 130);
      await waitUntil(async () => (await waiting()) === 1, "the third's leave");
      await kiln.ok("rm", "-f", "first");
      await kiln.ok("op", "watch", second);
      assert.equal((await inspect(kiln, "second")).state, "running");
      assert.equal((await kiln.json<DaemonStatus>("daemon", "status")).capacity.memoryBytes.reserved, MEMORY_BYTES);
    },
  ),

  global(
    "pool",
    "with a pool a VM starts from a guest that waits, shares nothing with the next one, and nothing waits when the daemon stops",
    async ({ home }) => {
      const kiln = await home({ from: "prepared", env: { KILN_POOL: `2:1x${MEMORY}` } });
      await kiln.ok("daemon", "start");
      const ready = async (): Promise<number> => (await kiln.json<DaemonStatus>("daemon", "status")).pool[0]?.ready ?? 0;
      await waitUntil(async () => (await ready()) === 2, "a full pool");
      const words: string[] = [];
      for (const name of ["one", "two"]) {
        await kiln.ok("run", "-d", "--name", name, ...guest(), ...SLEEP);
        assert.equal((await inspect(kiln, name)).startPath, "pool");
        words.push(
          await kiln.ok(
            "exec",
            name,
            ...shell("busybox hostname; busybox cat /etc/machine-id; busybox head -c 16 /dev/urandom | busybox md5sum"),
          ),
        );
      }
      const [one = [], two = []] = words.map((text) => text.trim().split("\n"));
      assert.equal(one.length, 3);
      for (const at of one.keys()) assert.notEqual(one[at], two[at]);
      await kiln.ok("rm", "-f", "one", "two");
      await kiln.ok("daemon", "stop");
      assert.deepEqual(await kiln.home.processes(), []);
    },
  ),

  global(
    "shapes",
    "a VM has the CPUs, memory and disk that it was given, and a shape that is warmed starts from a snapshot",
    async ({ home }) => {
      const kiln = await home({ from: "prepared" });
      await kiln.ok("kernel", "warm", "--cpus", "2", "-m", "192m");
      const flags = ["--cpus", "2", "-m", "192m", "--disk", "1g"];
      await kiln.ok("run", "-d", "--name", "wide", ...flags, IMAGE, "--", ...SLEEP);
      assert.equal((await inspect(kiln, "wide")).startPath, "preboot");
      const seen = await kiln.ok(
        "exec",
        "wide",
        ...shell("busybox nproc; busybox grep MemTotal /proc/meminfo; busybox df -m / | busybox tail -n 1"),
      );
      const [cpus, memory = "", disk = ""] = seen.trim().split("\n");
      const [kib, mib] = [Number(/\d+/.exec(memory)?.[0]), Number(disk.split(/\s+/)[1])];
      assert.equal(cpus, "2");
      assert.ok(kib > 128 * 1024 && kib <= 192 * 1024, memory);
      assert.ok(mib > 900 && mib <= 1024, disk);
    },
  ),
];
