import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { test } from "node:test";
import { createVmRequest, execRequest, pullImageRequest, type VmId } from "@kiln/protocol";
import { beginCreateVm } from "./create-vm.ts";
import { adoptVms } from "./adopt-vms.ts";
import { beginPullImage } from "./images.ts";
import { beginRemoveVm, removeVm } from "./remove-vm.ts";
import { beginStartVm } from "./start-vm.ts";
import { beginStopVm, killVm } from "./stop-vm.ts";
import { attachToVm, execInVm, guestOfExec } from "./stream-vm.ts";
import { createFakeCore } from "./testing/fake-core.ts";
import { waitForVm } from "./wait-vm.ts";

const never = new AbortController().signal;
const MIB = 2 ** 20;
const names = (count: number): string[] => Array.from({ length: count }, (_, index) => `vm-${index}`);

const until = async (condition: () => boolean): Promise<void> => {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, "waited 60 s in vain");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

const NOBODY = { idempotencyKey: null, caller: "" };

test("I16 64 creates of different names on a missing image join one pull, and their boots overlap", async () => {
  const gate = Promise.withResolvers<void>();
  let most = 0;
  await using fake = await createFakeCore({
    pull: () => gate.promise,
    bootMs: 5,
    bootsLimit: 4,
    faultOf: () => {
      most = Math.max(most, fake.host.machines.size - fake.core.running.list().length);
      return null;
    },
  });
  const begun = names(64).map((name) => fake.create({ name, start: true }));
  await new Promise((resolve) => setTimeout(resolve, 50));
  gate.resolve();
  const ended = await Promise.all(begun.map(fake.ended));
  assert.deepEqual(new Set(ended.map((one) => one.state)), new Set(["succeeded"]));
  assert.deepEqual(fake.counts, { pulls: 1, rootfs: 1, kernels: 1 });
  assert.ok(most >= 2 && most <= 4, `${most} boots at once`);
  assert.equal(fake.host.machines.size, 64);
});

test("who comes while an image is pulled says at once whose work it joins, and the work says who asked for it", async () => {
  const gate = Promise.withResolvers<void>();
  await using fake = await createFakeCore({ pull: () => gate.promise });
  const { operations } = fake.core;
  const first = fake.create({ name: "one" });
  await until(() => fake.counts.pulls === 1);
  const pull = operations.list({ all: false }).find(({ kind }) => kind === "image.pull");
  assert.deepEqual([first.joined, pull?.joined, pull?.parent], [null, null, first.id]);
  const later = [
    fake.create({ name: "two" }),
    beginPullImage(fake.core, pullImageRequest.parse({ reference: "deb:fake" }), { ...NOBODY, credentials: {} }),
  ];
  assert.deepEqual(
    later.map(({ joined }) => joined),
    [pull?.id, pull?.id],
  );
  gate.resolve();
  await Promise.all([first, ...later].map(fake.ended));
  const joiners = operations.list({ all: true }).filter(({ kind, joined }) => kind === "image.pull" && joined === pull?.id);
  assert.deepEqual(new Set(joiners.map(({ parent }) => parent)), new Set(later.map(({ id }) => id)));
  assert.equal(fake.create({ name: "three" }).joined, null, "what is there is joined by nobody");
});

test("I17 a hundred concurrent creates oversell neither names nor memory: ten run, those without a name are refused, the rest wait", async () => {
  await using fake = await createFakeCore({ memoryBytes: 10 * 512 * MIB });
  const begun = names(100).map((name) => fake.create({ name: name.replace(/[5-9]$/, "0"), start: true, autoRemove: true }));
  const views = () => begun.map(({ id }) => fake.core.operations.get(id));
  const count = (state: string): number => views().filter((one) => one.state === state).length;
  await until(() => count("succeeded") === 10 && count("queued") === 40 && count("failed") === 50);
  assert.deepEqual(new Set(views().flatMap((one) => one.error?.code ?? [])), new Set(["VM_NAME_TAKEN"]));
  assert.equal(fake.host.machines.size, 10);
  assert.equal(fake.core.vms.reserved().memoryBytes, 10 * 512 * MIB);
  const places = views().flatMap((one) => one.position ?? []);
  assert.deepEqual(
    places.toSorted((a, b) => a - b),
    Array.from({ length: 40 }, (_, index) => index + 1),
  );
  [...fake.host.machines][0]?.end({ reason: "guest-shutdown" });
  await until(() => count("succeeded") === 11 && count("queued") === 39);
  for (const view of views()) if (view.state === "queued") fake.core.operations.cancel(view.id);
  await until(() => count("cancelled") === 39);
  assert.equal(fake.core.vms.list().length, 10, "who leaves the queue leaves nothing");
  assert.equal(new Set(fake.core.vms.list().map((vm) => vm.slot)).size, 10);
  assert.equal(fake.core.admission.waiting, 0);
});

test("a VM that no host memory suffices for is refused at once", async () => {
  await using fake = await createFakeCore({ memoryBytes: 512 * MIB });
  const ended = await fake.ended(fake.create({ name: "big", start: true, memoryBytes: 1024 * MIB }));
  assert.equal(ended.error?.code, "CAPACITY_EXCEEDED");
});

test("I19 a start that hangs and is cancelled leaves no process, no memory held, and can be tried again", async () => {
  let hang = true;
  await using fake = await createFakeCore({ faultOf: () => (hang ? "hang" : null) });
  await fake.ended(fake.create({ name: "web" }));
  const start = beginStartVm(fake.core, "web", NOBODY);
  await new Promise((resolve) => setTimeout(resolve, 20));
  fake.core.operations.cancel(start.id);
  assert.equal((await fake.ended(start)).state, "cancelled");
  assert.equal(fake.host.machines.size, 0);
  assert.equal(fake.core.vms.reserved().memoryBytes, 0);
  hang = false;
  assert.equal((await fake.ended(beginStartVm(fake.core, "web", NOBODY))).state, "succeeded");
});

test("I20 a VMM that refuses to start is reported with its own words", async () => {
  await using fake = await createFakeCore({ faultOf: () => "refuse" });
  const ended = await fake.ended(fake.create({ name: "web", start: true }));
  assert.equal(ended.state, "failed");
  assert.match(ended.error?.detail ?? "", /asked to fail/);
  assert.equal(fake.vm("web")?.state, "failed");
});

test("a VMM that dies under its start is a typed failure", async () => {
  await using fake = await createFakeCore({ faultOf: () => "die" });
  const ended = await fake.ended(fake.create({ name: "web", start: true }));
  assert.equal(ended.state, "failed");
  assert.ok(["VM_DIED", "VMM_FAILED", "GUEST_AGENT_TIMEOUT"].includes(ended.error?.code ?? ""), String(ended.error?.code));
  assert.equal(fake.host.machines.size, 0);
});

test("a VMM that dies under a running VM is seen within 500 ms: the VM fails with the reason, an event tells of it, and who waits gets its room", async () => {
  await using fake = await createFakeCore({ memoryBytes: 512 * MIB });
  await fake.ended(fake.create({ name: "web", start: true }));
  const next = fake.create({ name: "next", start: true });
  await until(() => fake.core.operations.get(next.id).state === "queued");
  const [machine] = fake.host.machines;
  const began = performance.now();
  machine?.end({ reason: "vmm-died", detail: "QEMU ended by SIGKILL" });
  await until(() => fake.vm("web")?.state === "failed");
  assert.ok(performance.now() - began < 500);
  assert.deepEqual([fake.vm("web")?.error?.code, fake.vm("web")?.pid], ["VM_DIED", null]);
  const [event] = fake.core.events.about([fake.vm("web")?.id ?? ""], { limit: 1 });
  assert.match(JSON.stringify(event), /"vm\.failed".*"from":"running".*VM_DIED.*QEMU ended by SIGKILL/);
  assert.equal((await fake.ended(next)).state, "succeeded");
});

test("I18 two starts of one VM are one run", async () => {
  await using fake = await createFakeCore({ bootMs: 5 });
  await fake.ended(fake.create({ name: "web" }));
  const both = [beginStartVm(fake.core, "web", NOBODY), beginStartVm(fake.core, "web", NOBODY)];
  assert.deepEqual(
    (await Promise.all(both.map(fake.ended))).map((one) => one.state),
    ["succeeded", "succeeded"],
  );
  assert.equal(fake.host.boots, 1);
  assert.equal(fake.vm("web")?.epoch, 1);
});

test("I22 deleting works in every state, twice, and while a start is in flight", async () => {
  const hanging = new Set<string>();
  await using fake = await createFakeCore({ faultOf: (spec) => (hanging.has(spec.id) ? "hang" : null) });
  await fake.ended(fake.create({ name: "created" }));
  await fake.ended(fake.create({ name: "running", start: true }));
  await fake.ended(fake.create({ name: "starting" }));
  const starting = fake.core.vms.find("starting");
  assert.ok(starting);
  hanging.add(starting.id);
  const start = beginStartVm(fake.core, "starting", NOBODY);
  await new Promise((resolve) => setTimeout(resolve, 20));
  const ids = fake.core.vms.list().map((vm) => vm.id);
  const removals = ids.flatMap((id) => [
    beginRemoveVm(fake.core, id, { force: true, ...NOBODY }),
    beginRemoveVm(fake.core, id, { force: true, ...NOBODY }),
  ]);
  const ended = await Promise.all(removals.map(fake.ended));
  assert.deepEqual(new Set(ended.map((one) => one.state)), new Set(["succeeded"]));
  assert.equal((await fake.ended(start)).state, "cancelled");
  assert.deepEqual(fake.core.vms.list(), []);
  assert.equal(fake.host.machines.size, 0);
  assert.ok(ids.every((id) => !existsSync(fake.core.disks.directory(id))));
});

test("I7 a VM whose disk someone removed by hand does not start with an empty one, and can be removed", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web", start: true }));
  await fake.ended(beginStopVm(fake.core, "web", { timeoutMs: 1000, ...NOBODY }));
  const id = fake.core.vms.find("web")?.id ?? ("" as VmId);
  await rm(fake.core.disks.writableDiskPath(id));
  const refused = await fake.ended(beginStartVm(fake.core, "web", NOBODY));
  assert.deepEqual([refused.state, refused.error?.code], ["failed", "ARTIFACT_DAMAGED"]);
  assert.match(refused.error?.detail ?? "", /disk .* is gone/);
  assert.deepEqual([fake.vm("web")?.state, fake.core.vms.reserved().memoryBytes], ["failed", 0]);
  await removeVm(fake.core, id, { force: false });
  assert.deepEqual(fake.core.vms.list(), []);
});

test("I22 a VM whose directory and process someone removed by hand is deleted all the same", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web", start: true }));
  const record = fake.core.vms.find("web");
  assert.ok(record);
  await fake.core.disks.remove(record.id);
  for (const machine of fake.host.machines) machine.end({ reason: "vmm-died", detail: "someone killed it" });
  await removeVm(fake.core, record.id, { force: true });
  assert.deepEqual(fake.core.vms.list(), []);
});

test("a VM ends with its command, and its exit code is kept", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "job", start: true, command: ["exit", "7"] }));
  const ended = await waitForVm(fake.core, "job", { signal: never });
  assert.deepEqual([ended.state, ended.exitCode], ["exited", 7]);
  assert.equal(fake.host.machines.size, 0);
  assert.equal(fake.core.vms.reserved().memoryBytes, 0);
});

test("who attaches to a VM that has ended waits for the boot that it names, and for no other", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "job", start: true, command: ["exit", "7"] }));
  await waitForVm(fake.core, "job", { signal: never });
  for (const epoch of [null, 1]) await assert.rejects(attachToVm(fake.core, "job", { epoch, signal: never }), { code: "VM_NOT_RUNNING" });
  const attached = attachToVm(fake.core, "job", { epoch: 2, signal: never });
  const started = beginStartVm(fake.core, "job", NOBODY);
  const stream = await attached;
  assert.equal((await fake.ended(started)).state, "succeeded");
  assert.equal((await stream.exit).exitCode, 7);
  await stream.leave(true);
  assert.equal(fake.vm("job")?.epoch, 2);
});

test("stop ends the command, kill cuts the power, and both give the memory back", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "one", start: true }));
  await fake.ended(fake.create({ name: "two", start: true }));
  await fake.ended(beginStopVm(fake.core, "one", { timeoutMs: 1000, ...NOBODY }));
  assert.equal(fake.vm("one")?.state, "exited");
  await killVm(fake.core, "two", "SIGKILL");
  assert.deepEqual([fake.vm("two")?.state, fake.vm("two")?.exitCode], ["exited", 137]);
  assert.equal(fake.core.vms.reserved().memoryBytes, 0);
});

test("I27 thirty parallel execs right after a start all answer", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web", start: true }));
  const texts = await Promise.all(
    names(30).map(async (id) => {
      const request = execRequest.parse({ id, command: ["echo", id] });
      const stream = await execInVm(fake.core, "web", { request, signal: never });
      let text = "";
      for await (const chunk of stream.output) text += Buffer.from(chunk.bytes).toString();
      await stream.exit;
      await stream.leave(true);
      return text.trim();
    }),
  );
  assert.deepEqual(texts, names(30));
});

test("the same request with the same idempotency key makes one VM", async () => {
  await using fake = await createFakeCore();
  const request = createVmRequest.parse({ image: "deb:fake" });
  const first = beginCreateVm(fake.core, request, { idempotencyKey: "key-1", credentials: {}, caller: "" });
  await fake.ended(first);
  assert.equal(beginCreateVm(fake.core, request, { idempotencyKey: "key-1", credentials: {}, caller: "" }).id, first.id);
  assert.equal(fake.core.vms.list().length, 1);
});

test("I26 a client that breaks off and comes back with its exec id finds the command, and it ran once", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web", start: true }));
  const request = execRequest.parse({ id: "once", command: ["echo", "hi"] });
  const lost = await execInVm(fake.core, "web", { request, signal: never });
  for await (const _ of lost.output);
  await lost.leave(false);
  const run = fake.core.running.get(fake.core.vms.find("web")?.id ?? ("" as never));
  assert.deepEqual((await run?.session.list({ signal: never }))?.map((exec) => exec.id).includes("once"), true);
  const again = await execInVm(fake.core, "web", { request, signal: never });
  assert.equal((await Array.fromAsync(again.output)).map((chunk) => Buffer.from(chunk.bytes).toString()).join(""), "hi\n");
  assert.equal((await again.exit).exitCode, 0);
  await again.leave(true);
  assert.deepEqual((await run?.session.list({ signal: never }))?.map((exec) => exec.id).includes("once"), false);
});

test("I26 an exec id whose end a client knows runs nothing when it is asked for again", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web", start: true }));
  const request = execRequest.parse({ id: "once", command: ["echo", "hi"] });
  const first = await execInVm(fake.core, "web", { request, signal: never });
  for await (const _ of first.output);
  await first.leave(true);
  await assert.rejects(execInVm(fake.core, "web", { request, signal: never }), { code: "EXEC_NOT_FOUND" });
  const run = fake.core.running.list()[0];
  assert.deepEqual(await run?.session.list({ signal: never }).then((execs) => execs.some(({ id }) => id === "once")), false);
  assert.equal(run?.execReaders.size, 0, "nothing of a command that is over is kept but its id");
});

test("I26 an exec id of a guest that has been started again runs nothing in the next one", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web", start: true }));
  const guest = guestOfExec(fake.core, "web");
  assert.deepEqual(guest, { vm: fake.vm("web")?.id, epoch: 1 });
  const request = execRequest.parse({ id: "once", command: ["echo", "hi"], epoch: guest?.epoch });
  const lost = await execInVm(fake.core, "web", { request, signal: never });
  for await (const _ of lost.output);
  await lost.leave(false);
  await fake.ended(beginStopVm(fake.core, "web", { timeoutMs: 0, ...NOBODY }));
  await fake.ended(beginStartVm(fake.core, "web", NOBODY));
  await assert.rejects(execInVm(fake.core, "web", { request, signal: never }), { code: "EXEC_NOT_FOUND" });
  const run = fake.core.running.get(fake.core.vms.find("web")?.id ?? ("" as never));
  assert.deepEqual(await run?.session.list({ signal: never }).then((execs) => execs.some(({ id }) => id === "once")), false);
});

test("I36 a VM that ended while no daemon ran is written down as ended, and starts again", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web", start: true }));
  const next = fake.restart();
  const machine = [...fake.host.machines][0];
  machine?.end({ reason: "guest-shutdown" });
  await adoptVms(next);
  const state = fake.vm("web")?.state;
  assert.equal(state, "failed");
  assert.equal(fake.core.vms.reserved().memoryBytes, 0);
  assert.equal((await fake.ended(beginStartVm(next, "web", NOBODY))).state, "succeeded");
  await killVm(next, "web", "SIGKILL");
});

test("I36 a VM that runs is taken over by the next daemon in the same epoch", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web", start: true }));
  const next = fake.restart();
  await adoptVms(next);
  assert.deepEqual([fake.vm("web")?.state, fake.vm("web")?.epoch, fake.host.boots], ["running", 1, 1]);
  await killVm(next, "web", "SIGKILL");
  assert.equal(fake.vm("web")?.exitCode, 137);
});

test("a VM is adopted although its adoption cannot be written down", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web", start: true }));
  const next = fake.restart();
  const said: string[] = [];
  const append = () => {
    throw new Error("database or disk is full");
  };
  const journal = { ...next.journal, error: (_: unknown, message: string) => void said.push(message) };
  await adoptVms({ ...next, events: { ...next.events, append }, journal });
  assert.deepEqual(said, ["an event could not be written down"]);
  await killVm(next, "web", "SIGKILL");
  assert.equal(fake.vm("web")?.exitCode, 137);
});

test("the same delete asked again with its key is the same operation, though the VM is gone", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web" }));
  const remove = () => beginRemoveVm(fake.core, "web", { force: false, caller: "", idempotencyKey: "delete-1" });
  const first = remove();
  await fake.ended(first);
  assert.equal(remove().id, first.id);
});
