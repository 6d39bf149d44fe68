import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import type { CreateVmRequest, VmView } from "@kiln/protocol";
import { adoptVms } from "./adopt-vms.ts";
import type { Core } from "./core.ts";
import { removeVm } from "./remove-vm.ts";
import { createFakeCore, type FakeCore, type FakeCoreOptions } from "./testing/fake-core.ts";

const MIB = 2 ** 20;
const SHAPE = { cpus: 1, memoryBytes: 128 * MIB };

const createPoolCore = async (options: FakeCoreOptions = {}): Promise<FakeCore> => {
  const fake = await createFakeCore({ preboot: true, bootsLimit: 32, pool: [{ ...SHAPE, count: 2 }], ...options });
  fake.core.pool.refill(fake.core);
  return fake;
};

const until = async (condition: () => boolean | Promise<boolean>): Promise<void> => {
  const deadline = Date.now() + 60_000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, "waited 60 s in vain");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

const ready = (core: Core): number => core.pool.report().reduce((sum, shape) => sum + shape.ready, 0);

const run = async (fake: FakeCore, request: Partial<CreateVmRequest> & { name: string }): Promise<VmView> => {
  const ended = await fake.ended(fake.create({ start: true, memoryBytes: SHAPE.memoryBytes, ...request }));
  assert.equal(ended.state, "succeeded", JSON.stringify(ended.error));
  const vm = fake.vm(request.name);
  assert.ok(vm !== null);
  return vm;
};

const directories = (fake: FakeCore): Promise<string[]> => readdir(join(dirname(fake.preboots), "pool"));

describe("the pool", () => {
  test("I29 a VM claims a guest that waits, which is refilled, and each claim is another guest", async () => {
    await using fake = await createPoolCore();
    await until(() => ready(fake.core) === 2);
    const vms = await Promise.all(["one", "two"].map((name) => run(fake, { name })));
    assert.deepEqual(
      vms.map(({ startPath, startReason }) => [startPath, startReason]),
      [
        ["pool", null],
        ["pool", null],
      ],
    );
    assert.equal(new Set(vms.map(({ pid }) => pid)).size, 2);
    assert.equal(new Set(vms.map(({ bootId }) => bootId)).size, 2);
    await until(() => ready(fake.core) === 2);
    assert.equal(fake.host.machines.size, 4);
  });

  test("I1 twenty VMs at once that want the two guests: two get them, the others start otherwise", async () => {
    await using fake = await createPoolCore();
    await until(() => ready(fake.core) === 2);
    const vms = await Promise.all(Array.from({ length: 20 }, (_, index) => run(fake, { name: `vm-${index}` })));
    const pids = vms.map(({ pid }) => pid);
    assert.equal(new Set(pids).size, 20);
    assert.ok(vms.filter(({ startPath }) => startPath === "pool").length >= 2);
    assert.ok(vms.every(({ startPath }) => startPath === "pool" || startPath === "preboot"));
  });

  test("another shape, another network and a start that was asked for take no guest of it", async () => {
    await using fake = await createPoolCore();
    await until(() => ready(fake.core) === 2);
    assert.notEqual((await run(fake, { name: "large", memoryBytes: 192 * MIB })).startPath, "pool");
    assert.notEqual((await run(fake, { name: "alone", network: "none" })).startPath, "pool");
    assert.equal((await run(fake, { name: "cold", startMode: "cold" })).startPath, "cold");
    assert.equal((await run(fake, { name: "restored", startMode: "preboot" })).startPath, "preboot");
    assert.equal(ready(fake.core), 2);
  });

  test("I17 memory that VMs want is given back, and taken again when they are gone", async () => {
    await using fake = await createPoolCore({ memoryBytes: 4 * SHAPE.memoryBytes });
    await until(() => ready(fake.core) === 2);
    const large = { memoryBytes: 3 * SHAPE.memoryBytes, startMode: "cold" as const };
    await run(fake, { name: "large", ...large });
    assert.equal(ready(fake.core), 1);
    const large2 = await run(fake, { name: "small", startMode: "cold" });
    assert.equal(large2.state, "running");
    assert.equal(ready(fake.core), 0);
    assert.equal(fake.host.machines.size, 2);
    for (const name of ["large", "small"]) {
      const vm = fake.core.vms.find(name);
      assert.ok(vm !== null);
      await removeVm(fake.core, vm.id, { force: true });
    }
    fake.core.pool.refill(fake.core);
    await until(() => ready(fake.core) === 2);
  });

  test("I20 a guest that dies while it waits is replaced, and one that dies at the claim makes way for another start", async () => {
    await using fake = await createPoolCore();
    await until(() => ready(fake.core) === 2);
    const [first] = fake.host.machines;
    first?.end({ reason: "vmm-died", detail: "murdered" });
    await until(() => ready(fake.core) === 2 && fake.host.machines.size === 2);
    await until(async () => (await directories(fake)).length === 2);
    for (const machine of fake.host.machines) {
      Object.defineProperty(machine, "paused", {
        set() {
          machine.end({ reason: "vmm-died", detail: "at the claim" });
        },
      });
    }
    const vm = await run(fake, { name: "lucky" });
    assert.deepEqual([vm.state, vm.startPath], ["running", "preboot"]);
    await until(() => ready(fake.core) === 2);
  });

  test("without snapshots there is none, and the daemon has better things to do", async () => {
    await using fake = await createPoolCore({ preboot: false });
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal((await run(fake, { name: "one" })).startPath, "cold");
    assert.deepEqual([ready(fake.core), fake.host.machines.size], [0, 1]);
  });

  test("I35 a daemon that crashes leaves no guest of the pool to the next one, but every VM that had claimed one", async () => {
    await using fake = await createPoolCore();
    await until(() => ready(fake.core) === 2);
    const before = await run(fake, { name: "kept" });
    assert.equal(before.startPath, "pool");
    await until(() => ready(fake.core) === 2);
    const next = fake.restart();
    await adoptVms(next);
    await next.pool.reconcile(next);
    await until(() => ready(next) === 2);
    assert.equal(fake.host.machines.size, 3);
    assert.deepEqual([fake.vm("kept")?.state, fake.vm("kept")?.pid, fake.vm("kept")?.bootId], ["running", before.pid, before.bootId]);
    await until(async () => (await directories(fake)).length === 3);
    const kept = next.vms.find("kept");
    assert.ok(kept !== null);
    await removeVm(next, kept.id, { force: true });
    assert.equal(fake.host.machines.size, 2);
    next.pool.refill(next);
    await until(async () => (await directories(fake)).length === 2);
  });

  test("I22 a VM is deleted while it claims", async () => {
    await using fake = await createPoolCore({ bootMs: 50 });
    await until(() => ready(fake.core) === 2);
    const begun = fake.create({ name: "short", start: true, memoryBytes: SHAPE.memoryBytes });
    await until(() => fake.core.vms.find("short") !== null);
    const vm = fake.core.vms.find("short");
    assert.ok(vm !== null);
    await removeVm(fake.core, vm.id, { force: true });
    await fake.ended(begun);
    assert.equal(fake.core.vms.find("short"), null);
    fake.core.pool.refill(fake.core);
    await until(() => ready(fake.core) === 2 && fake.host.machines.size === 2);
    await until(async () => (await directories(fake)).length === 2);
  });

  test("a daemon that ends gives all of it back", async () => {
    await using fake = await createPoolCore();
    await until(() => ready(fake.core) === 2);
    await fake.core.pool[Symbol.asyncDispose]();
    assert.equal(fake.host.machines.size, 0);
    assert.deepEqual(await directories(fake), []);
  });
});
