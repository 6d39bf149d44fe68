import assert from "node:assert/strict";
import { test } from "node:test";
import { KilnError } from "@kiln/protocol";
import { FakeClock, systemRandom } from "@kiln/std";
import { Database } from "../store/database.ts";
import { SqliteOperationStore } from "../store/operation-store.ts";
import type { Work } from "../pipeline/work.port.ts";
import { RecordedWork } from "./joined-work.ts";
import { Operations } from "./operations.ts";

const never = new AbortController().signal;

const setUp = () => {
  const operations = new Operations({
    store: new SqliteOperationStore(new Database(":memory:")),
    clock: new FakeClock(),
    random: systemRandom,
    journal: { error: () => undefined },
    stopping: never,
  });
  return { operations, work: new RecordedWork(operations) };
};

/** Work whose making is held until the test opens the gate. */
const gatedWork = (key: string, made: Map<string, string>) => {
  const gate = Promise.withResolvers<void>();
  const entered = Promise.withResolvers<void>();
  let runs = 0;
  const work: Work<string> = {
    kind: "rootfs.build",
    key,
    subject: key,
    find: async () => made.get(key) ?? null,
    make: async ({ signal, phase }) => {
      runs += 1;
      phase("build");
      entered.resolve();
      await Promise.race([
        gate.promise,
        new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error))),
      ]);
      made.set(key, `made ${key}`);
      return `made ${key}`;
    },
    describe: (result) => result,
  };
  return { work, gate, entered: entered.promise, runs: () => runs };
};

test("I1 twenty callers of one key share one run, and the rows say who joined", async () => {
  const { operations, work } = setUp();
  const gated = gatedWork("a", new Map());
  const callers = Array.from({ length: 20 }, () => work.run(gated.work, { signal: never }));
  await gated.entered;
  await new Promise((resolve) => setImmediate(resolve));
  gated.gate.resolve();
  assert.deepEqual(new Set(await Promise.all(callers)), new Set(["made a"]));
  assert.equal(gated.runs(), 1);
  const rows = operations.list({ all: true });
  assert.equal(rows.filter((row) => row.state === "succeeded" && row.joined === null).length, 1);
  const leader = rows.find((row) => row.joined === null)?.id;
  assert.equal(rows.filter((row) => row.joined === leader).length, 19);
});

test("who comes while the first still looks whether there is anything to do has joined it all the same, unless it has left by then", async () => {
  const { operations, work } = setUp();
  const looked = Promise.withResolvers<null>();
  const gated = gatedWork("k", new Map());
  let looks = 0;
  // the first look is each caller's own, the second one is the work's
  const slow: Work<string> = { ...gated.work, find: async () => (++looks === 2 ? looked.promise : null) };
  const first = work.run(slow, { signal: never });
  await new Promise((resolve) => setImmediate(resolve));
  const leaver = new AbortController();
  const left = work.run(slow, { signal: leaver.signal });
  const second = work.run(slow, { signal: never });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(operations.list({ all: true }).length, 0);
  leaver.abort(new KilnError("CANCELLED", "enough"));
  await assert.rejects(left, { code: "CANCELLED" });
  looked.resolve(null);
  await gated.entered;
  gated.gate.resolve();
  assert.deepEqual(await Promise.all([first, second]), ["made k", "made k"]);
  const rows = operations.list({ all: true });
  const leader = rows.find(({ joined }) => joined === null);
  const [joiner] = rows.filter(({ joined }) => joined !== null);
  assert.deepEqual([rows.length, joiner?.joined, joiner?.state, leader?.state], [2, leader?.id, "succeeded", "succeeded"]);
});

test("a result that is there makes no operation", async () => {
  const { operations, work } = setUp();
  const gated = gatedWork("a", new Map([["a", "there"]]));
  assert.equal(await work.run(gated.work, { signal: never }), "there");
  assert.equal(operations.list({ all: true }).length, 0);
});

test("I2 two keys are made at the same time", async () => {
  const { work } = setUp();
  const made = new Map<string, string>();
  const [one, two] = [gatedWork("a", made), gatedWork("b", made)];
  const both = [work.run(one.work, { signal: never }), work.run(two.work, { signal: never })];
  await Promise.all([one.entered, two.entered]);
  one.gate.resolve();
  two.gate.resolve();
  assert.deepEqual(await Promise.all(both), ["made a", "made b"]);
});

test("I11 when the last caller leaves, the work is cancelled and its operation says so", async () => {
  const { operations, work } = setUp();
  const gated = gatedWork("a", new Map());
  const leaver = new AbortController();
  const caller = work.run(gated.work, { signal: leaver.signal });
  await gated.entered;
  leaver.abort(new KilnError("CANCELLED", "left"));
  await assert.rejects(caller, { code: "CANCELLED" });
  assert.deepEqual(
    operations.list({ all: true }).map((row) => row.state),
    ["cancelled"],
  );
});

test("I13 a failure is reported with its cause to all who waited, and the next caller starts afresh", async () => {
  const { operations, work } = setUp();
  let attempts = 0;
  const flaky: Work<string> = {
    ...gatedWork("a", new Map()).work,
    make: async () => {
      attempts += 1;
      await new Promise((resolve) => setImmediate(resolve));
      if (attempts === 1) throw new KilnError("DISK_FULL", "no room for a");
      return "made";
    },
  };
  const first = await Promise.allSettled([work.run(flaky, { signal: never }), work.run(flaky, { signal: never })]);
  assert.ok(first.every((one) => one.status === "rejected" && one.reason instanceof KilnError && one.reason.code === "DISK_FULL"));
  assert.equal(await work.run(flaky, { signal: never }), "made");
  const failed = operations.list({ all: true }).filter((row) => row.state === "failed");
  assert.ok(failed.every((row) => row.error?.detail === "no room for a"));
});
