import assert from "node:assert/strict";
import { open, readdir, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { CreateVmRequest, OperationView, VmView } from "@kiln/protocol";
import type { BootFault } from "../vmm/fake/host.ts";
import type { VmmSpec } from "../vms/driver.port.ts";
import type { Core } from "./core.ts";
import { beginRemoveVm } from "./remove-vm.ts";
import { beginStartVm } from "./start-vm.ts";
import { beginStopVm } from "./stop-vm.ts";
import { beginWarmKernel } from "./warm-kernel.ts";
import { createFakeCore, type FakeCore, type FakeCoreOptions } from "./testing/fake-core.ts";

const NOBODY = { idempotencyKey: null, caller: "" };
const MIB = 2 ** 20;
const MEMORY_BYTES = 128 * MIB;
const never = new AbortController().signal;

const createPrebootCore = (options: FakeCoreOptions = {}): Promise<FakeCore> =>
  createFakeCore({ preboot: true, bootsLimit: 32, ...options });

const until = async (condition: () => boolean): Promise<void> => {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, "waited 60 s in vain");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

type Request = Partial<CreateVmRequest> & { name: string };

const run = async (fake: FakeCore, request: Request): Promise<VmView> => {
  const ended = await fake.ended(fake.create({ start: true, memoryBytes: MEMORY_BYTES, ...request }));
  assert.equal(ended.state, "succeeded", JSON.stringify(ended.error));
  return requireVm(fake, request.name);
};

const requireVm = (fake: FakeCore, name: string): VmView => {
  const vm = fake.vm(name);
  assert.ok(vm !== null);
  return vm;
};

const builds = (core: Core): readonly OperationView[] => core.operations.list({ all: true }).filter(({ kind }) => kind === "preboot.build");
const realBuilds = (core: Core): readonly OperationView[] => builds(core).filter(({ joined }) => joined === null);

/** What is built behind a cold boot is there. */
const built = async (core: Core, count: number): Promise<void> => {
  await until(() => realBuilds(core).filter(({ state }) => state === "succeeded").length === count);
  await until(() => builds(core).every(({ state }) => state !== "running" && state !== "queued"));
};

const file = async (fake: FakeCore, name: "memory" | "state"): Promise<string> => {
  const [key] = await readdir(fake.preboots);
  assert.ok(key !== undefined);
  return join(fake.preboots, key, name);
};

const changeByte = async (path: string): Promise<void> => {
  await using handle = await open(path, "r+");
  const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, 3);
  await handle.write(Buffer.from([(buffer[0] ?? 0) ^ 1]), 0, 1, 3);
};

describe("pre-boot snapshots", () => {
  test("the first VM of a shape boots cold and says why; what is built behind it, later ones start from", async () => {
    await using fake = await createPrebootCore();
    const first = await run(fake, { name: "first" });
    assert.deepEqual([first.startPath, first.startReason], ["cold", "there was no pre-boot snapshot of this shape yet"]);
    await built(fake.core, 1);
    const second = await run(fake, { name: "second", image: "deb:other" });
    assert.deepEqual([second.startPath, second.startReason], ["preboot", null]);
    const third = await run(fake, { name: "third", startMode: "cold" });
    assert.deepEqual([third.startPath, third.startReason], ["cold", "asked for"]);
    const other = await run(fake, { name: "other", memoryBytes: 2 * MEMORY_BYTES });
    assert.equal(other.startPath, "cold");
    await built(fake.core, 2);
    assert.equal(fake.host.machines.size, 4, "no builder is left");
  });

  test("a VM that waits for its boot while the snapshot is built starts from it", async () => {
    await using fake = await createPrebootCore({ bootsLimit: 1 });
    const turn = await fake.core.boots.acquire({ caller: "test", signal: never, position: () => undefined });
    const waiting = fake.create({ name: "late", start: true, memoryBytes: MEMORY_BYTES });
    await until(() => fake.core.operations.get(waiting.id).state === "queued");
    const warmed = await fake.ended(beginWarmKernel(fake.core, { cpus: 1, memoryBytes: MEMORY_BYTES }, NOBODY));
    assert.equal(warmed.state, "succeeded", JSON.stringify(warmed.error));
    turn[Symbol.dispose]();
    assert.equal((await fake.ended(waiting)).state, "succeeded");
    const { startPath, startReason } = requireVm(fake, "late");
    assert.deepEqual([startPath, startReason], ["preboot", null]);
  });

  test("I40 its files are their owner's, to be read", async () => {
    await using fake = await createPrebootCore();
    await run(fake, { name: "web", startMode: "preboot" });
    const modes = await Promise.all(
      [fake.preboots, join(await file(fake, "state"), ".."), await file(fake, "memory"), await file(fake, "state")].map(
        async (path) => (await stat(path)).mode & 0o777,
      ),
    );
    assert.deepEqual(modes, [0o700, 0o700, 0o400, 0o400]);
  });

  test("I1 twenty VMs of a new shape that ask for one at once join one build", async () => {
    await using fake = await createPrebootCore({ bootMs: 20 });
    const names = Array.from({ length: 20 }, (_, index) => `vm-${index}`);
    const vms = await Promise.all(names.map((name) => run(fake, { name, startMode: "preboot" })));
    assert.deepEqual(new Set(vms.map(({ startPath }) => startPath)), new Set(["preboot"]));
    assert.deepEqual(
      realBuilds(fake.core).map(({ state }) => state),
      ["succeeded"],
    );
    assert.equal(builds(fake.core).filter(({ joined }) => joined === realBuilds(fake.core)[0]?.id).length, 19);
  });

  test("switched off, VMs boot cold and say so, and who insists is told how to switch it on", async () => {
    await using fake = await createFakeCore();
    const vm = await run(fake, { name: "web" });
    assert.deepEqual([vm.startPath, vm.startReason], ["cold", "pre-boot snapshots are switched off"]);
    const refused = await fake.ended(fake.create({ name: "other", start: true, startMode: "preboot" }));
    assert.equal(refused.error?.code, "USAGE");
    assert.match(refused.error?.hint ?? "", /KILN_PREBOOT=on/);
  });
});

const DAMAGE: readonly {
  readonly what: string;
  readonly name: "memory" | "state";
  readonly damage: (path: string) => Promise<void>;
  readonly says: RegExp;
}[] = [
  { what: "a memory that is missing", name: "memory", damage: (path) => rm(path), says: /memory cannot be read/ },
  {
    what: "a memory that is short",
    name: "memory",
    damage: (path) => truncate(path, MEMORY_BYTES - 4096),
    says: /has 134213632 bytes instead of 134217728/,
  },
  { what: "a memory with another byte", name: "memory", damage: changeByte, says: /is not what was saved/ },
  { what: "a state that is missing", name: "state", damage: (path) => rm(path), says: /is missing or damaged/ },
  { what: "a state that is short", name: "state", damage: (path) => truncate(path, 4), says: /is missing or damaged/ },
  { what: "a state with another byte", name: "state", damage: changeByte, says: /is missing or damaged/ },
];

describe("a damaged pre-boot snapshot", () => {
  for (const { what, name, damage, says } of DAMAGE) {
    test(`I7 I34 ${what} is noticed: the VM boots cold with the reason, and the next start is from a new one`, async () => {
      await using fake = await createPrebootCore();
      await run(fake, { name: "first", startMode: "preboot" });
      for (const vm of ["second", "third"]) await fake.ended(fake.create({ name: vm, memoryBytes: MEMORY_BYTES }));
      await fake.ended(fake.create({ name: "fourth", memoryBytes: MEMORY_BYTES, startMode: "preboot" }));
      const path = await file(fake, name);
      const { ctimeMs } = await stat(path);
      // what this daemon has loaded is sealed, and stays as it was saved
      const core = name === "memory" ? await fake.handOver() : fake.core;
      await damage(path);
      const start = async (vm: string): Promise<VmView> => {
        const ended = await core.operations.wait(beginStartVm(core, vm, NOBODY).id, { signal: never });
        assert.equal(ended.state, "succeeded", JSON.stringify(ended.error));
        return requireVm(fake, vm);
      };
      const second = await start("second");
      assert.equal(second.startPath, "cold");
      assert.match(second.startReason ?? "", /^the pre-boot snapshot cannot be used: /);
      assert.match(second.startReason ?? "", says);
      await built(core, 2);
      assert.notEqual((await stat(path)).ctimeMs, ctimeMs);
      assert.deepEqual((await start("third")).startPath, "preboot");
      await damage(await file(fake, "state"));
      assert.deepEqual((await start("fourth")).startPath, "preboot", "who insists waits for another");
      await built(core, 3);
    });
  }
});

/** A fault of the first boot of each VM that is meant. */
const faultOnFirst = (fault: BootFault, isMeant: (spec: VmmSpec) => boolean): ((spec: VmmSpec) => BootFault | null) => {
  const seen = new Set<string>();
  return (spec) => {
    if (seen.has(spec.id) || !isMeant(spec)) return null;
    seen.add(spec.id);
    return fault;
  };
};

describe("a restore that fails", () => {
  const faults = [
    { fault: "refuse", says: /asked to fail/ },
    { fault: "die", says: /asked to die|not held any more/ },
  ] as const;
  for (const { fault, says } of faults) {
    test(`I19 I30 a VMM that ${fault === "refuse" ? "refuses the snapshot" : "dies under it"} is torn down, the VM boots cold with the reason, the snapshot is built again`, async () => {
      let armed = false;
      await using fake = await createPrebootCore({ faultOf: faultOnFirst(fault, ({ id }) => armed && id !== "preboot") });
      await run(fake, { name: "first", startMode: "preboot" });
      armed = true;
      const vm = await run(fake, { name: "second" });
      armed = false;
      assert.equal(vm.startPath, "cold");
      assert.match(vm.startReason ?? "", /^the restore failed: /);
      assert.match(vm.startReason ?? "", says);
      await built(fake.core, 2);
      assert.equal(fake.host.machines.size, 2);
      assert.equal((await run(fake, { name: "third" })).startPath, "preboot");
      assert.equal(realBuilds(fake.core).length, 2);
    });
  }

  test("I30 where nothing else was asked for it fails with the reason, and the VM can be started again", async () => {
    let armed = true;
    await using fake = await createPrebootCore({ faultOf: faultOnFirst("refuse", ({ id }) => armed && id !== "preboot") });
    const failed = await fake.ended(fake.create({ name: "web", start: true, startMode: "preboot", memoryBytes: MEMORY_BYTES }));
    assert.match(failed.error?.detail ?? "", /asked to fail/);
    armed = false;
    assert.equal(fake.host.machines.size, 0);
    await fake.ended(beginStartVm(fake.core, "web", NOBODY));
    assert.equal(requireVm(fake, "web").startPath, "preboot");
  });

  test("those that fail together with one snapshot have one built again, not one each", async () => {
    let armed = false;
    await using fake = await createPrebootCore({ bootMs: 10, faultOf: faultOnFirst("refuse", ({ id }) => armed && id !== "preboot") });
    await run(fake, { name: "first", startMode: "preboot" });
    armed = true;
    const vms = await Promise.all(["a", "b", "c", "d", "e"].map((name) => run(fake, { name })));
    armed = false;
    assert.deepEqual(new Set(vms.map(({ startPath }) => startPath)), new Set(["cold"]));
    await built(fake.core, 2);
    assert.equal(realBuilds(fake.core).length, 2);
  });

  test("I22 a VM is deleted while it is restored", async () => {
    let armed = false;
    await using fake = await createPrebootCore({ faultOf: ({ id }) => (armed && id !== "preboot" ? "hang" : null) });
    await run(fake, { name: "first", startMode: "preboot" });
    armed = true;
    const begun = fake.create({ name: "second", start: true, memoryBytes: MEMORY_BYTES });
    await until(() => fake.host.machines.size === 2);
    const removed = await fake.ended(beginRemoveVm(fake.core, "second", { force: true, ...NOBODY }));
    assert.equal(removed.state, "succeeded");
    assert.equal((await fake.ended(begun)).state, "cancelled");
    assert.equal(fake.vm("second"), null);
    assert.equal(fake.host.machines.size, 1);
    armed = false;
    assert.equal((await run(fake, { name: "third" })).startPath, "preboot", "the snapshot is no worse for it");
  });

  test("I36 a VM that was restored is adopted by the next daemon, and starts anew in its next epoch", async () => {
    await using fake = await createPrebootCore();
    const before = await run(fake, { name: "web", startMode: "preboot" });
    const core = await fake.handOver();
    await until(() => core.running.list().length === 1);
    const after = requireVm(fake, "web");
    assert.deepEqual([after.bootId, after.epoch, after.startPath], [before.bootId, 1, "preboot"]);
    await core.operations.wait(beginStopVm(core, "web", { timeoutMs: 5_000, ...NOBODY }).id, { signal: never });
    await core.operations.wait(beginStartVm(core, "web", NOBODY).id, { signal: never });
    const again = requireVm(fake, "web");
    assert.deepEqual([again.epoch, again.startPath], [2, "preboot"]);
    assert.notEqual(again.bootId, before.bootId);
  });
});

describe("a build that fails", () => {
  test("I13 is told to who insists, costs who does not nothing, and is not tried again behind each boot", async () => {
    let tries = 0;
    const faultOf = ({ id }: VmmSpec): BootFault | null => {
      if (id !== "preboot") return null;
      tries += 1;
      return "refuse";
    };
    await using fake = await createPrebootCore({ faultOf });
    for (const name of ["one", "two", "three"]) {
      const vm = await run(fake, { name });
      assert.equal(vm.startPath, "cold");
      await until(() => builds(fake.core).every(({ state }) => state === "failed"));
    }
    assert.equal(tries, 1);
    const failed = await fake.ended(fake.create({ name: "four", start: true, startMode: "preboot", memoryBytes: MEMORY_BYTES }));
    assert.match(failed.error?.detail ?? "", /asked to fail/);
    assert.equal(tries, 2);
    assert.deepEqual(await readdir(join(fake.preboots, "../staging")), []);
    assert.equal(fake.host.machines.size, 3);
  });

  test("one that hangs ends at its deadline, and boots wait for it no longer", async () => {
    await using fake = await createPrebootCore({ prebootBuildMs: 100, faultOf: ({ id }) => (id === "preboot" ? "hang" : null) });
    const vm = await run(fake, { name: "one" });
    assert.equal(vm.startPath, "cold");
    await until(() => builds(fake.core).length > 0 && builds(fake.core).every(({ state }) => state === "failed"));
    assert.match(builds(fake.core)[0]?.error?.detail ?? "", /was not built within 100 ms/);
    assert.equal(fake.host.machines.size, 1);
    assert.deepEqual(await readdir(join(fake.preboots, "../staging")), []);
  });

  test("I11 who leaves a build as the last ends it, and nothing of it is left", async () => {
    await using fake = await createPrebootCore({ faultOf: ({ id }) => (id === "preboot" ? "hang" : null) });
    const begun = fake.create({ name: "web", start: true, startMode: "preboot", memoryBytes: MEMORY_BYTES });
    await until(() => fake.host.machines.size === 1);
    fake.core.operations.cancel(begun.id);
    assert.equal((await fake.ended(begun)).state, "cancelled");
    assert.equal(fake.host.machines.size, 0);
    assert.deepEqual(await readdir(join(fake.preboots, "../staging")), []);
  });

  test("a daemon that stops in the middle of one leaves nothing, and the next one builds", async () => {
    let armed = true;
    await using fake = await createPrebootCore({ faultOf: ({ id }) => (armed && id === "preboot" ? "hang" : null) });
    await run(fake, { name: "one" });
    await until(() => fake.host.machines.size === 2);
    const core = await fake.handOver();
    armed = false;
    assert.equal(fake.host.machines.size, 1);
    assert.deepEqual(await readdir(join(fake.preboots, "../staging")), []);
    await until(() => core.running.list().length === 1);
    await core.operations.wait(beginStopVm(core, "one", { timeoutMs: 5_000, ...NOBODY }).id, { signal: never });
    await core.operations.wait(beginStartVm(core, "one", NOBODY).id, { signal: never });
    assert.equal(requireVm(fake, "one").startPath, "cold");
    await built(core, 1);
  });
});
