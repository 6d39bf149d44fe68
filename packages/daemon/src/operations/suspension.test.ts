import assert from "node:assert/strict";
import { test } from "node:test";
import type { OperationView } from "@kiln/protocol";
import { beginRemoveVm } from "./remove-vm.ts";
import { beginStartVm } from "./start-vm.ts";
import { beginStopVm, killVm } from "./stop-vm.ts";
import { createFakeCore, type FakeCore } from "./testing/fake-core.ts";

const never = new AbortController().signal;
const MIB = 2 ** 20;
const NOBODY = { idempotencyKey: null, caller: "" };

const until = async (condition: () => boolean, what: string): Promise<void> => {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `waited 60 s in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

const phaseIs = ({ core }: FakeCore, { id }: OperationView, phase: string) =>
  until(() => core.operations.get(id).phase === phase, `the phase ${phase}`);

test("I36 a create that waits for a pull when its daemon ends is no failure, and the next daemon ends it under its id", async () => {
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let pulls = 0;
  await using fake = await createFakeCore({ pull: () => gates[pulls++]?.promise ?? Promise.resolve() });
  const begun = fake.create({ name: "web", start: true });
  await until(() => pulls === 1, "the pull");
  const waiting = fake.core.operations.wait(begun.id, { signal: never });
  setTimeout(() => gates[0]?.resolve(), 20); // returning means stopped: the daemon waits for what it has told to stop
  const next = await fake.handOver();
  await assert.rejects(waiting, { code: "DAEMON_UNREACHABLE" });
  assert.equal(next.operations.get(begun.id).state, "running");
  const pull = next.operations.list({ all: true }).find((one) => one.kind === "image.pull" && one.finishedAt !== null);
  assert.deepEqual([pull?.state, pull?.error?.code], ["failed", "INTERRUPTED"], "work of nobody's own is done anew");
  gates[1]?.resolve();
  assert.equal((await next.operations.wait(begun.id, { signal: never })).state, "succeeded");
  assert.equal(fake.vm("web")?.state, "running");
  await killVm(next, "web", "KILL");
});

test("I36 who stands in a queue stands in the next daemon's, however often daemons end", async () => {
  await using fake = await createFakeCore({ memoryBytes: 512 * MIB });
  await fake.ended(fake.create({ name: "one", start: true }));
  const two = fake.create({ name: "two", start: true });
  await until(() => fake.core.operations.get(two.id).state === "queued", "the queue");
  let core = fake.core;
  for (let daemons = 0; daemons < 5; daemons += 1) {
    core = await fake.handOver();
    const { operations } = core;
    await until(() => operations.get(two.id).position === 1, "the queue again");
  }
  await killVm(core, "one", "KILL");
  const ended = await core.operations.wait(two.id, { signal: never });
  assert.equal(ended.state, "succeeded");
  assert.deepEqual(new Set(ended.waits.map((wait) => `${wait.for} ${wait.position}`)), new Set(["capacity 1"]));
  assert.notEqual(ended.waits.at(-1)?.ms ?? null, null);
  await killVm(core, "two", "KILL");
});

test("I36 a start whose guest is up when its daemon ends goes on with that guest", async () => {
  let reached = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web" }));
  const checkpoint = async (name: string): Promise<void> => {
    if (name !== "vm.start.boot.recorded") return;
    reached.resolve();
    await gate.promise;
  };
  const begun = beginStartVm({ ...fake.core, checkpoint }, "web", NOBODY);
  await reached.promise;
  reached = Promise.withResolvers();
  setTimeout(() => gate.resolve(), 10);
  const next = await fake.handOver();
  assert.equal((await next.operations.wait(begun.id, { signal: never })).state, "succeeded");
  assert.deepEqual([fake.host.boots, fake.vm("web")?.epoch], [1, 1]);
  await killVm(next, "web", "KILL");
});

test("a stop and a start behind it are gone on with in their order, and the VM is adopted meanwhile", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web", start: true }));
  const vm = fake.core.vms.find("web");
  assert.ok(vm);
  const held = await fake.core.vmLocks.acquire(vm.id, { signal: never });
  const stop = beginStopVm(fake.core, "web", { timeoutMs: 60_000, ...NOBODY });
  const start = beginStartVm(fake.core, "web", NOBODY);
  const next = await fake.handOver();
  held[Symbol.dispose]();
  const ends = await Promise.all([stop, start].map(({ id }) => next.operations.wait(id, { signal: never })));
  assert.deepEqual(
    ends.map((one) => one.state),
    ["succeeded", "succeeded"],
  );
  assert.deepEqual([fake.vm("web")?.state, fake.vm("web")?.epoch], ["running", 2]);
  await killVm(next, "web", "KILL");
});

test("a cancelled stop ends at once, and what ends the VM later is not that stop", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web", start: true }));
  const run = fake.core.running.list()[0];
  assert.ok(run?.main);
  run.main.sendSignal = async () => undefined; // a command that does not hear its stop signal
  const stop = beginStopVm(fake.core, "web", { timeoutMs: 60_000, ...NOBODY });
  await phaseIs(fake, stop, "stop");
  fake.core.operations.cancel(stop.id);
  assert.equal((await fake.ended(stop)).state, "cancelled");
  assert.equal(fake.vm("web")?.state, "running");
  for (const machine of fake.host.machines) machine.end({ reason: "vmm-died", detail: "QEMU ended by SIGKILL" });
  await until(() => fake.vm("web")?.state === "failed", "the failure");
});

test("a delete is not cancelled", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web", start: true }));
  const removal = beginRemoveVm(fake.core, "web", { force: true, ...NOBODY });
  fake.core.operations.cancel(removal.id);
  assert.equal((await fake.ended(removal)).state, "succeeded");
  assert.equal(fake.vm("web"), null);
});

test("a daemon that ends begins nothing", async () => {
  await using fake = await createFakeCore();
  fake.core.operations.suspendAll();
  assert.throws(() => fake.create({ name: "late" }), { code: "DAEMON_UNREACHABLE" });
});
