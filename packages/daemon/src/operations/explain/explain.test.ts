import assert from "node:assert/strict";
import { test } from "node:test";
import { explanation } from "@kiln/protocol";
import { removeImage } from "../images.ts";
import { beginRemoveVm } from "../remove-vm.ts";
import { beginStartVm } from "../start-vm.ts";
import { killVm } from "../stop-vm.ts";
import { createFakeCore, type FakeCore } from "../testing/fake-core.ts";
import { explain } from "./explain.ts";

const NOBODY = { idempotencyKey: null, caller: "" };
const MIB = 2 ** 20;

const until = async (condition: () => boolean): Promise<void> => {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, "waited 60 s in vain");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

/** What the API says of it: everything in it has its place in the schema. */
const ask = ({ core }: FakeCore, subject: string) => explanation.strict().parse(explain(core, subject));

test("a VM that waits in line: its place, how long, and the room there is; when it has got in, what it waited", async () => {
  await using fake = await createFakeCore({ memoryBytes: 1024 * MIB });
  await Promise.all(["one", "two"].map((name) => fake.ended(fake.create({ name, start: true }))));
  fake.create({ name: "three", start: true });
  const four = fake.create({ name: "four", start: true });
  await until(() => fake.core.operations.get(four.id).state === "queued");
  await new Promise((resolve) => setTimeout(resolve, 20));
  for (const subject of ["four", four.id, four.key]) {
    const { summary, waits, capacity } = ask(fake, subject);
    const [wait] = waits;
    assert.deepEqual([waits.length, wait?.for, wait?.position, wait?.state, wait?.operation.id], [1, "capacity", 2, "waiting", four.id]);
    assert.ok((wait?.ms ?? 0) >= 15, String(wait?.ms));
    assert.match(summary.join("\n"), /vm\.create \(op_[0-9a-f]+\) waits for memory and CPUs, 1 in front of it, for \d+ ms/);
    assert.equal(subject !== four.id, summary[0] === "four is there and does not run yet.");
    assert.deepEqual(capacity?.memoryBytes, { total: 1024 * MIB, reserved: 1024 * MIB, wanted: 512 * MIB });
    assert.equal(capacity?.waiting, 2);
  }
  await killVm(fake.core, "one", "KILL");
  await killVm(fake.core, "two", "KILL");
  await fake.ended(four);
  const after = ask(fake, "four");
  assert.deepEqual([after.state, after.waits[0]?.state, after.waits[0]?.position], ["running", "over", 2]);
  assert.ok(Number(after.waits[0]?.ms) >= 20);
  assert.deepEqual(
    after.events.map(({ type }) => type).filter((type) => type.startsWith("vm") || /queued|admitted/.test(type)),
    ["vm.created", "operation.queued", "vm.starting", "operation.admitted", "vm.running"],
  );
});

test("whoever joined work is told whose it was and for how long; the work is told who joined it", async () => {
  const gate = Promise.withResolvers<void>();
  await using fake = await createFakeCore({ pull: () => gate.promise });
  const one = fake.create({ name: "one" });
  await until(() => fake.counts.pulls === 1);
  const two = fake.create({ name: "two" });
  await until(() => ask(fake, two.id).joined.length > 0);
  const { joined, summary } = ask(fake, two.id);
  assert.deepEqual([joined[0]?.by?.id, joined[0]?.by?.subject, joined[0]?.state], [one.id, "one", "waiting"]);
  assert.match(summary.join("\n"), /It waits for image\.pull of deb:fake .* begun for vm\.create of one/);
  const work = ask(fake, joined[0]?.work.id ?? "");
  assert.match(work.summary.join("\n"), /was begun for vm\.create of one[^]*1 more joined it: two/);
  gate.resolve();
  await fake.ended(two);
  const over = ask(fake, "two").joined[0];
  assert.deepEqual([over?.state, over?.by?.subject], ["over", "one"]);
});

test("a refusal is explained with the figures", async () => {
  await using fake = await createFakeCore({ memoryBytes: 512 * MIB });
  await fake.ended(fake.create({ name: "big", start: true, memoryBytes: 1024 * MIB }));
  const { error, summary, capacity } = ask(fake, "big");
  assert.equal(error?.code, "CAPACITY_EXCEEDED");
  assert.match(error.detail, /needs 1024 MiB of memory and 512 MiB are free of 512 MiB/);
  assert.match(summary.join("\n"), /A start would wait: it needs 1024 MiB and 1 CPU, and 512 MiB of memory are free/);
  assert.deepEqual(capacity?.memoryBytes, { total: 512 * MIB, reserved: 0, wanted: 1024 * MIB });
});

test("a VM that died says of what, and why its disk is still there", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web", start: true }));
  for (const machine of fake.host.machines) machine.end({ reason: "vmm-died", detail: "QEMU ended by SIGKILL" });
  await until(() => fake.vm("web")?.state === "failed");
  const { state, summary, error, events } = ask(fake, "web");
  assert.deepEqual([state, error?.code], ["failed", "VM_DIED"]);
  assert.match(
    summary.join("\n"),
    /web failed: .*QEMU ended by SIGKILL[^]*Its disk stays until it is removed: `kiln rm web`, or `kiln prune`/,
  );
  assert.match(JSON.stringify(events.at(-1)), /"vm\.failed".*SIGKILL/);
});

test("a failed operation says at which phase it ended", async () => {
  await using fake = await createFakeCore({ faultOf: () => "refuse" });
  const ended = await fake.ended(fake.create({ name: "web", start: true }));
  assert.match(ask(fake, ended.id).summary[0] ?? "", /vm\.create of web failed at vmm after \d+ ms: .*asked to fail/);
});

test("an image that VMs use is held by them, one that is on its way by an operation, and one that nobody needs says how it goes", async () => {
  const gate = Promise.withResolvers<void>();
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web" }));
  const used = ask(fake, "deb:fake");
  assert.deepEqual([used.kind, used.state], ["image", "in use"]);
  assert.deepEqual(
    used.heldBy.map(({ kind, name, what }) => [kind, name, what]),
    [["vm", "web", "rootfs"]],
  );
  assert.match(used.summary[0] ?? "", /cannot be removed: the rootfs is used by web/);
  assert.deepEqual(
    ask(fake, "f".repeat(64))
      .heldBy.map(({ kind }) => kind)
      .sort(),
    ["image", "vm"],
  );
  await fake.ended(beginRemoveVm(fake.core, "web", { force: true, ...NOBODY }));
  assert.match(ask(fake, "deb:fake").summary[0] ?? "", /Nothing uses deb:fake: `kiln rmi deb:fake`/);
  const operation = fake.create({ name: "next" });
  using lease = fake.core.leases.begin(operation.id);
  lease.hold("f".repeat(64));
  gate.resolve();
  const held = ask(fake, "deb:fake");
  assert.ok(held.heldBy.some(({ kind, id }) => kind === "operation" && id === operation.id));
  await fake.ended(operation);
});

test("what is gone is explained from what is remembered of it; what never was is not found", async () => {
  await using fake = await createFakeCore();
  await fake.ended(fake.create({ name: "web" }));
  await fake.ended(beginRemoveVm(fake.core, "web", { force: true, ...NOBODY }));
  const gone = ask(fake, "web");
  assert.deepEqual([gone.kind, gone.state], ["gone", null]);
  assert.match(gone.summary[0] ?? "", /web was removed at /);
  assert.deepEqual(
    gone.operations.filter(({ parent }) => parent === null).map(({ kind }) => kind),
    ["vm.create", "vm.delete"],
  );
  await removeImage(fake.core, "deb:fake");
  assert.equal(ask(fake, "deb:fake").kind, "gone");
  for (const subject of ["nobody", "No Name!", ""]) assert.throws(() => explain(fake.core, subject), { code: "NOT_FOUND" });
  assert.throws(() => explain(fake.core, "op_0000000000000000"), { code: "OPERATION_NOT_FOUND" });
  assert.throws(() => beginStartVm(fake.core, "web", NOBODY), { code: "VM_NOT_FOUND" });
});
