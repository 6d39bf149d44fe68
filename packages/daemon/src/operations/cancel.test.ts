import assert from "node:assert/strict";
import { test } from "node:test";
import { type OperationKind, type OperationView, pullImageRequest } from "@kiln/protocol";
import { beginPullImage } from "./images.ts";
import { beginStartVm } from "./start-vm.ts";
import { killVm } from "./stop-vm.ts";
import { createFakeCore, type FakeCore } from "./testing/fake-core.ts";

const NOBODY = { idempotencyKey: null, caller: "" };

const until = async (condition: () => boolean): Promise<void> => {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, "waited 60 s in vain");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

/** Two creates and a pull that share one pull, which is held. */
const sharing = async (fake: FakeCore) => {
  const { operations } = fake.core;
  const first = fake.create({ name: "first" });
  await until(() => fake.counts.pulls === 1);
  const second = fake.create({ name: "second" });
  const third = beginPullImage(fake.core, pullImageRequest.parse({ reference: "deb:fake" }), { ...NOBODY, credentials: {} });
  const find = (kind: OperationKind, parent: OperationView) =>
    operations.list({ all: true }).find((one) => one.kind === kind && one.parent === parent.id);
  await until(() => find("image.pull", second) !== undefined && find("image.pull", third) !== undefined);
  const states = async () => (await Promise.all([first, second, third].map(fake.ended))).map(({ state }) => state);
  return { first, second, third, find, states };
};

const held = async (): Promise<{ fake: FakeCore; release: () => void }> => {
  const gate = Promise.withResolvers<void>();
  return { fake: await createFakeCore({ pull: () => gate.promise }), release: () => gate.resolve() };
};

test("I11 who cancels what they asked for leaves, and the work goes on for the others", async () => {
  const { fake, release } = await held();
  await using _fake = fake;
  const { first, states } = await sharing(fake);
  fake.core.operations.cancel(first.id);
  release();
  assert.deepEqual(await states(), ["cancelled", "succeeded", "succeeded"]);
  assert.deepEqual([fake.counts.pulls, fake.vm("first")], [1, null]);
});

test("who cancels a joiner takes out the one that it stands for, and no other", async () => {
  const { fake, release } = await held();
  await using _fake = fake;
  const { second, find, states } = await sharing(fake);
  const joiner = find("image.pull", second);
  assert.ok(joiner?.joined);
  fake.core.operations.cancel(joiner.id);
  release();
  assert.deepEqual(await states(), ["succeeded", "cancelled", "succeeded"]);
  assert.equal(fake.core.operations.get(joiner.id).state, "cancelled");
});

test("who cancels the work itself cancels it for all who wait, and the next one begins afresh", async () => {
  const { fake, release } = await held();
  await using _fake = fake;
  const { first, find, states } = await sharing(fake);
  const work = find("image.pull", first);
  assert.ok(work?.joined === null);
  fake.core.operations.cancel(work.id);
  release();
  assert.deepEqual(await states(), ["cancelled", "cancelled", "cancelled"]);
  assert.equal((await fake.ended(fake.create({ name: "next" }))).state, "succeeded");
  assert.equal(fake.counts.pulls, 2);
});

test("who cancels a start that waits for memory leaves the queue, and the VM is as it was", async () => {
  await using fake = await createFakeCore({ memoryBytes: 512 * 2 ** 20 });
  await fake.ended(fake.create({ name: "one", start: true }));
  await fake.ended(fake.create({ name: "two" }));
  const start = beginStartVm(fake.core, "two", NOBODY);
  await until(() => fake.core.operations.get(start.id).state === "queued");
  fake.core.operations.cancel(start.id);
  const ended = await fake.ended(start);
  assert.deepEqual([ended.state, ended.position, ended.error?.code], ["cancelled", null, "CANCELLED"]);
  assert.deepEqual([fake.vm("two")?.state, fake.core.admission.waiting], ["created", 0]);
  await killVm(fake.core, "one", "KILL");
  assert.equal((await fake.ended(beginStartVm(fake.core, "two", NOBODY))).state, "succeeded");
});

test("an operation that has ended stays as it is", async () => {
  await using fake = await createFakeCore();
  const ended = await fake.ended(fake.create({ name: "web" }));
  assert.deepEqual(fake.core.operations.cancel(ended.id), ended);
  assert.throws(() => fake.core.operations.cancel("op_0000000000000000"), { code: "OPERATION_NOT_FOUND" });
});
