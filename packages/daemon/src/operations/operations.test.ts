import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock, systemRandom } from "@kiln/std";
import { Database } from "../store/database.ts";
import { STORE_LIMITS } from "../store/limits.ts";
import { SqliteOperationStore } from "../store/operation-store.ts";
import { SqliteSagaLog } from "../store/saga-log.ts";
import { OPERATION_LIMITS } from "./limits.ts";
import { firstRecord, Operations } from "./operations.ts";
import type { SagaRecord } from "./saga/saga.ts";
import type { OperationStore } from "./store.port.ts";

const never = new AbortController().signal;
const spec = { kind: "vm.create", key: "web", subject: "web" } as const;

const setUp = () => {
  const clock = new FakeClock();
  const database = new Database(":memory:");
  const store = new SqliteOperationStore(database);
  return {
    clock,
    store,
    database,
    operations: new Operations({ store, clock, random: systemRandom, journal: { error: () => undefined }, stopping: never }),
  };
};

test("an operation keeps its phases with their milliseconds", async () => {
  const { operations, clock } = setUp();
  const gate = Promise.withResolvers<void>();
  const begun = operations.begin(
    spec,
    async (context) => {
      context.phase("resolve");
      clock.advance(5);
      context.phase("reserve");
      clock.advance(7);
      await gate.promise;
      return "id";
    },
    null,
  );
  gate.resolve();
  const ended = await operations.wait(begun.id, { signal: never });
  assert.deepEqual(ended.phases, [
    { name: "resolve", ms: 5 },
    { name: "reserve", ms: 7 },
  ]);
  assert.equal(ended.result, "id");
});

test("the phases of a saga are written down with its records and cost no writes of their own", async () => {
  const { operations, store, database } = setUp();
  const sagas = new SqliteSagaLog<SagaRecord>(database, { viewOf: (id) => operations.findLive(id) });
  const writes: string[] = [];
  const begun = operations.beginSaga({ spec, idempotency: null, saga: { name: "toy", input: null } }, async (context, record) => {
    const look = (): void =>
      void writes.push(
        store
          .get(context.id)
          ?.phases.map(({ name }) => name)
          .join() ?? "",
      );
    for (const name of ["one", "two", "three"]) context.phase(name);
    look();
    sagas.put(record);
    look();
    return null;
  });
  await operations.wait(begun.id, { signal: never });
  assert.deepEqual(writes, ["", "one,two"]);
  assert.deepEqual(
    store.get(begun.id)?.phases.map(({ name }) => name),
    ["one", "two", "three"],
  );
  sagas.put(firstRecord(begun.id, { name: "toy", input: null }));
  assert.equal(store.get(begun.id)?.state, "succeeded", "the log of an operation that has ended says nothing of it");
});

test("the same idempotency key and request give the same operation, another request is refused", async () => {
  const { operations } = setUp();
  let runs = 0;
  const begin = (request: unknown) =>
    operations.begin(
      spec,
      async () => {
        runs += 1;
        return null;
      },
      { key: "k1", request },
    );
  const first = begin({ image: "a" });
  await operations.wait(first.id, { signal: never });
  assert.equal(begin({ image: "a" }).id, first.id);
  assert.equal(runs, 1);
  assert.throws(() => begin({ image: "b" }), { code: "IDEMPOTENCY_CONFLICT" });
});

test("an idempotency key is forgotten after its window, unless what it began still runs", async () => {
  const { operations, clock } = setUp();
  const gate = Promise.withResolvers<null>();
  const begin = (key: string, work: () => Promise<null>) => operations.begin(spec, work, { key, request: {} });
  const quick = begin("quick", async () => null);
  const slow = begin("slow", () => gate.promise);
  await operations.wait(quick.id, { signal: never });
  clock.advance(STORE_LIMITS.keyWindowMs + 1);
  assert.equal(begin("slow", () => gate.promise).id, slow.id);
  const again = begin("quick", async () => null);
  assert.notEqual(again.id, quick.id);
  assert.equal(begin("quick", async () => null).id, again.id);
  assert.equal(operations.get(quick.id).state, "succeeded", "only its key is forgotten");
  gate.resolve(null);
  await operations.wait(slow.id, { signal: never });
});

test("a cancelled operation ends as cancelled", async () => {
  const { operations } = setUp();
  const begun = operations.begin(
    spec,
    (context) => new Promise((_, reject) => context.signal.addEventListener("abort", () => reject(context.signal.reason as Error))),
    null,
  );
  operations.cancel(begun.id);
  assert.equal((await operations.wait(begun.id, { signal: never })).state, "cancelled");
});

test("a watcher sees the operation to its end", async () => {
  const { operations } = setUp();
  const gate = Promise.withResolvers<void>();
  const begun = operations.begin(
    spec,
    async (context) => {
      await gate.promise;
      context.phase("late");
      return null;
    },
    null,
  );
  const states: string[] = [];
  for await (const view of operations.watch(begun.id, { signal: never })) {
    states.push(view.state);
    gate.resolve();
  }
  assert.equal(states.at(-1), "succeeded");
});

test("a watcher is told each step at once, and progress no faster than ten times a second", async () => {
  const { operations, clock } = setUp();
  const seen: string[] = [];
  const turns = async (): Promise<void> => {
    for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
  };
  const report = async (done: number, work: { report(progress: { done: number; total: null; unit: string }): void }): Promise<void> => {
    work.report({ done, total: null, unit: "bytes" });
    await turns();
  };
  const begun = operations.begin(
    spec,
    async (context) => {
      await turns();
      context.phase("fetch");
      await turns();
      for (let done = 1; done <= 50; done += 1) await report(done, context);
      clock.advance(OPERATION_LIMITS.watchMs);
      await turns();
      await report(51, context);
      return null;
    },
    null,
  );
  for await (const view of operations.watch(begun.id, { signal: never }))
    seen.push(`${view.phase ?? view.state} ${view.progress?.done ?? 0}`);
  assert.deepEqual(seen, ["running 0", "fetch 0", "fetch 50", "succeeded 51"]);
});

test("what an earlier daemon left running is failed with a cause", () => {
  const { operations, store, clock } = setUp();
  const left = operations.open(spec);
  const later = new Operations({ store, clock, random: systemRandom, journal: { error: () => undefined }, stopping: never });
  assert.equal(later.failInterrupted(), 1);
  assert.equal(later.get(left.view.id).state, "failed");
  assert.equal(later.list({ all: false }).length, 0);
});

test("an operation ends for all who ask although its end cannot be written down, and it is written down once there is room", async () => {
  const { clock, store } = setUp();
  let isFull = true;
  const full: OperationStore = {
    insert: (view, idempotency) => store.insert(view, idempotency),
    update: (view, event) => {
      if (isFull) throw new Error("database or disk is full");
      store.update(view, event);
    },
    get: (id) => store.get(id),
    findByIdempotencyKey: (key, options) => store.findByIdempotencyKey(key, options),
    list: (options) => store.list(options),
    trim: () => store.trim(),
  };
  const said: string[] = [];
  const journal = { error: (_fields: unknown, message: string) => void said.push(message) };
  const operations = new Operations({ store: full, clock, random: systemRandom, journal, stopping: never });
  const ended = await operations.wait(operations.begin(spec, async () => "done", null).id, { signal: never });
  assert.equal(ended.state, "succeeded");
  assert.deepEqual(said, ["an operation could not be written down"]);
  assert.deepEqual([store.get(ended.id)?.state, operations.get(ended.id).state], ["running", "succeeded"]);
  assert.deepEqual(operations.list({ all: false }), []);
  await clock.untilSleeping(1);
  clock.advance(OPERATION_LIMITS.unwrittenMs);
  await clock.untilSleeping(1); // there was no room yet
  isFull = false;
  clock.advance(OPERATION_LIMITS.unwrittenMs);
  while (store.get(ended.id)?.state === "running") await new Promise(setImmediate);
  assert.deepEqual([store.get(ended.id)?.state, store.list({ activeOnly: true })], ["succeeded", []]);
});
