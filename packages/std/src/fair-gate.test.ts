import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { FairGate } from "./fair-gate.ts";
import { QueueFullError } from "./semaphore.ts";

const forever = new AbortController().signal;
const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A store of so many units; each admission takes some. */
class Store {
  free: number;
  readonly gate: FairGate;

  constructor(units: number, maxWaiters = Infinity) {
    this.free = units;
    this.gate = new FairGate({ maxWaiters });
  }

  take(units: number, options: { caller?: string; signal?: AbortSignal; onPosition?: (place: number) => void } = {}): Promise<number> {
    const attempt = (): number | null => {
      if (units > this.free) return null;
      this.free -= units;
      return units;
    };
    return this.gate.admit(attempt, { caller: "one", signal: forever, ...options });
  }

  giveBack(units: number): void {
    this.free += units;
    this.gate.retry();
  }
}

suite("a fair gate", () => {
  test("lets in while there is room, and then in the order of arrival", async () => {
    const store = new Store(2);
    assert.equal(await store.take(2), 2);
    const order: string[] = [];
    const waiters = ["a", "b", "c"].map((name) => store.take(1).then(() => order.push(name)));
    await settle();
    assert.deepEqual([order, store.gate.waiting], [[], 3]);
    store.giveBack(1);
    await settle();
    assert.deepEqual(order, ["a"]);
    store.giveBack(2);
    await Promise.all(waiters);
    assert.deepEqual([order, store.free], [["a", "b", "c"], 0]);
  });

  test("callers take turns: one with many requests does not keep out one with a single one", async () => {
    const store = new Store(0);
    const order: string[] = [];
    const places: number[] = [];
    for (const name of ["a1", "a2", "a3"]) void store.take(1, { caller: "a" }).then(() => order.push(name));
    void store.take(1, { caller: "b", onPosition: (place) => places.push(place) }).then(() => order.push("b1"));
    assert.deepEqual(places, [2]);
    for (let n = 0; n < 4; n += 1) {
      store.giveBack(1);
      await settle();
    }
    assert.deepEqual(order, ["a1", "b1", "a2", "a3"]);
    assert.deepEqual(places, [2, 1]);
  });

  test("one caller with a thousand requests beside a thousand with one: the places are told in time that grows like the waiters", async () => {
    const store = new Store(0);
    const places = new Map<string, number>();
    const waiter = (caller: string, name: string): void => void store.take(1, { caller, onPosition: (place) => places.set(name, place) });
    for (let index = 0; index < 1000; index += 1) waiter("many", `many ${index}`);
    for (let index = 0; index < 1000; index += 1) waiter(`one ${index}`, `one ${index}`);
    const looks = 50;
    const began = process.cpuUsage();
    for (let look = 0; look < looks; look += 1) store.gate.retry();
    const { user } = process.cpuUsage(began);
    assert.deepEqual([places.get("many 0"), places.get("one 0"), places.get("one 999"), places.get("many 1")], [1, 2, 1001, 1002]);
    // a look at each caller in each of a thousand rounds is a million of them, and took 50 ms
    assert.ok(user / looks < 10_000, `${user / looks} microseconds of CPU for one look at 2,000 waiters`);
  });

  test("a large request at the head is not overtaken by small ones", async () => {
    const store = new Store(1);
    const order: string[] = [];
    const large = store.take(3).then(() => order.push("large"));
    const small = store.take(1).then(() => order.push("small"));
    await settle();
    assert.deepEqual(order, [], "there would be room for the small one");
    store.giveBack(3);
    await Promise.all([large, small]);
    assert.deepEqual(order, ["large", "small"]);
  });

  test("a head that leaves no longer stands in the way", async () => {
    const store = new Store(1);
    const leaver = new AbortController();
    const large = store.take(3, { signal: leaver.signal });
    const small = store.take(1);
    leaver.abort(new Error("left"));
    await assert.rejects(large, { message: "left" });
    assert.equal(await small, 1);
    assert.equal(store.gate.waiting, 0);
  });

  test("a full queue refuses, and an attempt that throws fails its own caller only", async () => {
    const store = new Store(0, 2);
    let broken = false;
    const bad = store.gate.admit(
      () => {
        if (broken) throw new Error("broken");
        return null;
      },
      { caller: "bad", signal: forever },
    );
    const good = store.take(1);
    await assert.rejects(store.take(1), QueueFullError);
    broken = true;
    store.giveBack(1);
    await assert.rejects(bad, { message: "broken" });
    assert.equal(await good, 1);
  });

  test("whatever happens in whatever order, nobody is lost and nothing is oversold", async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("take" as const), units: fc.integer({ min: 1, max: 4 }), caller: fc.constantFrom("a", "b", "c") }),
      fc.record({ kind: fc.constant("back" as const) }),
      fc.record({ kind: fc.constant("leave" as const), which: fc.nat(20) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const store = new Store(4);
        const held: number[] = [];
        const waiting = new Map<number, AbortController>();
        for (const [index, one] of steps.entries()) {
          if (one.kind === "take") {
            const leaver = new AbortController();
            waiting.set(index, leaver);
            store.take(one.units, { caller: one.caller, signal: leaver.signal }).then(
              (units) => void (waiting.delete(index), held.push(units)),
              () => waiting.delete(index),
            );
          } else if (one.kind === "back") store.giveBack(held.pop() ?? 0);
          else [...waiting.values()][one.which]?.abort(new Error("left"));
          await settle();
          assert.ok(store.free >= 0);
          assert.equal(store.free + held.reduce((sum, units) => sum + units, 0), 4);
          assert.equal(store.gate.waiting, waiting.size);
        }
        while (held.length > 0) {
          store.giveBack(held.pop() ?? 0);
          await settle();
        }
        assert.equal(store.gate.waiting, 0, "with everything given back all have been let in");
      }),
      { numRuns: 200 },
    );
  });
});
