import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { runSaga, type Saga, type SagaLog, type SagaRecord } from "./saga.ts";

class MemoryLog implements SagaLog {
  readonly records = new Map<string, SagaRecord>();
  readonly written: SagaRecord[] = [];

  put(record: SagaRecord): void {
    this.records.set(record.operation, record);
    this.written.push(record);
  }

  remove(operation: string): void {
    this.records.delete(operation);
  }

  list(): readonly SagaRecord[] {
    return [...this.records.values()];
  }
}

const FIRST: SagaRecord = { operation: "op", saga: "test", input: null, outputs: {}, failure: null, resumes: 0 };

const toy = (events: string[], onFailure: "undo" | "carry on", fail: ReadonlySet<string> = new Set()): Saga<null> => ({
  name: "test",
  onFailure,
  steps: ["one", "two", "three"].map((name, index) => ({
    name,
    needsAll: name === "three",
    run: async () => {
      events.push(name);
      if (fail.has(name)) throw new Error(`${name} failed`);
      return index;
    },
    resume: async (_context, output) => void events.push(`resume ${name} ${JSON.stringify(output)}`),
    undo: async () => {
      events.push(`undo ${name}`);
      if (fail.has(`undo ${name}`)) throw new Error(`undo of ${name} failed`);
    },
  })),
});

const run = (saga: Saga<null>, log: SagaLog, more: { record?: SagaRecord; signal?: AbortSignal; next?: SagaRecord } = {}): Promise<void> =>
  runSaga(saga, {
    ...{ context: null, log, record: FIRST, signal: new AbortController().signal, ...more },
    onStep: () => undefined,
    checkpoint: async () => undefined,
  });

suite("a saga", () => {
  test("stores each output under its step's name before the next step begins", async () => {
    const [events, log] = [[] as string[], new MemoryLog()];
    await run(toy(events, "undo"), log);
    assert.deepEqual(events, ["one", "two", "three"]);
    assert.deepEqual(log.written.at(-1)?.outputs, { one: 0, two: 1, three: 2 });
  });

  test("goes on behind what its record says is done", async () => {
    const [events, log] = [[] as string[], new MemoryLog()];
    await run(toy(events, "undo"), log, { record: { ...FIRST, outputs: { one: 0, two: 7 } } });
    assert.deepEqual(events, ["resume one 0", "resume two 7", "three"]);
  });

  test("a failure takes back what was begun, the last first, and the log forgets it", async () => {
    const [events, log] = [[] as string[], new MemoryLog()];
    await assert.rejects(run(toy(events, "undo", new Set(["two"])), log), { message: "two failed" });
    assert.deepEqual(events, ["one", "two", "undo two", "undo one"]);
    assert.deepEqual(log.list(), []);
  });

  test("an abort between steps takes back, and its reason is thrown", async () => {
    const [events, log] = [[] as string[], new MemoryLog()];
    const controller = new AbortController();
    const saga = toy(events, "undo");
    const first = saga.steps[0];
    assert.ok(first);
    const aborting = { ...first, run: async () => controller.abort(new Error("left")) };
    await assert.rejects(run({ ...saga, steps: [aborting, ...saga.steps.slice(1)] }, log, { signal: controller.signal }), {
      message: "left",
    });
    assert.deepEqual(events, ["undo two", "undo one"]);
  });

  test("an undo that fails does not keep the others from running; the log keeps the saga, and the next daemon takes it back", async () => {
    const [events, log] = [[] as string[], new MemoryLog()];
    const failing = new Set(["three", "undo two"]);
    await assert.rejects(run(toy(events, "undo", failing), log), {
      message: /three failed; and taking it back failed: undo of two failed/,
    });
    assert.deepEqual(events.slice(3), ["undo three", "undo two", "undo one"]);
    const [kept] = log.list();
    assert.equal(kept?.failure?.detail, "three failed");
    events.length = 0;
    failing.clear();
    await assert.rejects(run(toy(events, "undo"), log, { record: kept ?? FIRST }), { message: "three failed" });
    assert.deepEqual(events, ["undo three", "undo two", "undo one"]);
    assert.deepEqual(log.list(), []);
  });

  test("I22 one that carries on does every step but those that need all others, and joins what failed", async () => {
    const [events, log] = [[] as string[], new MemoryLog()];
    await assert.rejects(run(toy(events, "carry on", new Set(["one", "two"])), log), { message: "one failed; two failed" });
    assert.deepEqual(events, ["one", "two"]);
    events.length = 0;
    await run(toy(events, "carry on"), log);
    assert.deepEqual(events, ["one", "two", "three"]);
  });

  test("gives way to the saga that follows in one write", async () => {
    const log = new MemoryLog();
    const next = { ...FIRST, saga: "next" };
    await run(toy([], "undo"), log, { next });
    assert.deepEqual(log.list(), [next]);
  });
});
