import assert from "node:assert/strict";
import { test } from "node:test";
import type { KernelView, OperationView, VmView } from "@kiln/protocol";
import { TestHome, waitUntil } from "./home.ts";

const FAKE = { KILN_DRIVER: "fake", KILN_PREBOOT: "on" };
const IMAGE = "deb:busybox-static";
const SHAPE = { cpus: 2, memoryBytes: 256 * 2 ** 20 };
const WARM = ["kernel", "warm", "--cpus", "2", "-m", "256m"];

const operations = async (home: TestHome, kind: string): Promise<OperationView[]> =>
  (await home.json<OperationView[]>("op", "ls", "-a")).filter((one) => one.kind === kind);

const shapes = async (home: TestHome): Promise<KernelView["shapes"]> =>
  (await home.json<KernelView[]>("kernel", "ls")).flatMap((kernel) => kernel.shapes);

const begin = async (home: TestHome): Promise<string> => (await home.json<{ operation: string }>(...WARM, "--no-wait")).operation;

/** The work that a warm-up waits for. */
const waitForWork = (home: TestHome, kind: string): Promise<void> =>
  waitUntil(async () => (await operations(home, kind)).some(({ finishedAt }) => finishedAt === null), `a ${kind} that runs`);

test("kernel warm makes kernel set and snapshot once for all who ask, and the next VM of the shape starts from it", async () => {
  await using home = await TestHome.create("", FAKE);
  const [first, second, run] = await Promise.all([
    home.json<{ operation: string; snapshot: string }>(...WARM),
    home.json<{ operation: string; snapshot: string }>(...WARM),
    home.kiln(["run", "-d", "--name", "web", "--cpus", "2", "-m", "256m", "--start", "preboot", IMAGE, "--", "sleep", "1000"]),
  ]);
  assert.equal(run.code, 0, run.stderr);
  assert.equal(first.snapshot, second.snapshot);
  assert.notEqual(first.operation, second.operation);
  for (const kind of ["kernel.build", "preboot.build"]) {
    const built = (await operations(home, kind)).filter(({ joined }) => joined === null);
    assert.deepEqual(
      built.map(({ state }) => state),
      ["succeeded"],
      kind,
    );
  }
  assert.deepEqual(await shapes(home), [SHAPE]);
  assert.match(await home.ok("kernel", "ls"), / 2 CPUs and 256 MiB *\n/);
  assert.equal((await home.json<VmView>("inspect", "web")).startPath, "preboot");
  assert.deepEqual(await home.json(...WARM), { ...(await again(home)), snapshot: first.snapshot, ...SHAPE });
  assert.equal((await operations(home, "preboot.build")).filter(({ joined }) => joined === null).length, 1);
});

/** What a further one answers, whose operation is the newest. */
const again = async (home: TestHome): Promise<{ operation: string }> => {
  const [newest] = await operations(home, "kernel.warm");
  assert.ok(newest);
  return { operation: newest.id };
};

test("kernel warm can be cancelled; a stop in order and a crash of the daemon leave it to the next one", async () => {
  await using home = await TestHome.create("", FAKE);
  const cancelled = await begin(home);
  await waitForWork(home, "kernel.build");
  await home.ok("op", "cancel", cancelled);
  assert.equal((await home.kiln(["op", "watch", cancelled])).code, 130);
  const [build] = await operations(home, "kernel.build");
  assert.equal(build?.state, "cancelled");
  assert.deepEqual(await home.json("kernel", "ls"), []);

  const warmed = await begin(home);
  await waitForWork(home, "kernel.build");
  await home.ok("daemon", "stop");
  const env = { KILN_TEST: "1", KILN_FAILPOINT: "preboot.begun=kill" };
  assert.equal((await home.kiln(["daemon", "start"], { env })).code, 0);
  await waitUntil(async () => (await home.daemonLog()).includes("failpoint preboot.begun kill"), "the daemon's end");
  await home.ok("op", "watch", warmed);
  const states = (await operations(home, "kernel.warm")).map(({ id, state }) => [id, state]);
  assert.deepEqual(states, [
    [warmed, "succeeded"],
    [cancelled, "cancelled"],
  ]);
  assert.deepEqual(await shapes(home), [SHAPE]);
  const [running] = await home.json<OperationView[]>("op", "ls");
  assert.equal(running, undefined);
});

test("kernel warm says where snapshots are switched off, and refuses what fits nowhere", async () => {
  await using home = await TestHome.create("", { ...FAKE, KILN_PREBOOT: "off", KILN_MEMORY_BYTES: String(2 ** 30) });
  const off = await home.kiln([...WARM, "--json"]);
  assert.equal(off.code, 2);
  const problem = JSON.parse(off.stderr) as { code: string; hint: string };
  assert.equal(problem.code, "USAGE");
  assert.match(problem.hint, /KILN_PREBOOT=on/);
  await home.ok("daemon", "stop");
  const large = await home.kiln(["kernel", "warm", "-m", "2g", "--json"], { env: { KILN_PREBOOT: "on" } });
  assert.equal((JSON.parse(large.stderr) as { code: string }).code, "CAPACITY_EXCEEDED");
  assert.deepEqual(await operations(home, "kernel.warm"), []);
});
