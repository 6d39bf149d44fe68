import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { KeyedLock } from "./keyed-lock.ts";

const forever = () => new AbortController().signal;

describe("a keyed lock", () => {
  it("I2 different keys are held at the same time", async () => {
    const locks = new KeyedLock();
    using _a = await locks.acquire("a", { signal: forever() });
    using _b = await locks.acquire("b", { signal: forever() });
    assert.equal(locks.size, 2);
  });

  it("I10 the entry stays while someone waits, so a newcomer queues behind", async () => {
    const locks = new KeyedLock();
    const order: string[] = [];
    const held = await locks.acquire("k", { signal: forever() });
    const waiter = locks.acquire("k", { signal: forever() });
    held[Symbol.dispose]();
    const newcomer = locks.acquire("k", { signal: forever() }).then((lock) => {
      order.push("newcomer");
      return lock;
    });
    const second = await waiter;
    order.push("waiter");
    second[Symbol.dispose]();
    (await newcomer)[Symbol.dispose]();
    assert.deepEqual(order, ["waiter", "newcomer"]);
    assert.equal(locks.size, 0);
  });

  it("I10 disposing of a lock twice does not free it for two", async () => {
    const locks = new KeyedLock();
    const first = await locks.acquire("k", { signal: forever() });
    first[Symbol.dispose]();
    const second = await locks.acquire("k", { signal: forever() });
    first[Symbol.dispose]();
    assert.equal(locks.size, 1);
    second[Symbol.dispose]();
    assert.equal(locks.size, 0);
  });

  it("I11 I12 a waiter leaves by its signal and leaves nothing behind", async () => {
    const locks = new KeyedLock();
    const held = await locks.acquire("k", { signal: forever() });
    const leaver = new AbortController();
    const waiting = locks.acquire("k", { signal: leaver.signal });
    leaver.abort(new Error("left"));
    await assert.rejects(waiting, /left/);
    held[Symbol.dispose]();
    assert.equal(locks.size, 0);
    await assert.rejects(locks.acquire("k", { signal: leaver.signal }), /left/);
    assert.equal(locks.size, 0);
  });
});

it("I10 one holder per key, first come first served, under every order of events", async () => {
  const caller = fc.record({ key: fc.constantFrom("a", "b"), leaves: fc.boolean() });
  const property = fc.asyncProperty(fc.scheduler(), fc.array(caller, { maxLength: 8 }), async (scheduler, callers) => {
    const locks = new KeyedLock();
    const holders = new Map<string, number>();
    const queues = new Map<string, number[]>([
      ["a", []],
      ["b", []],
    ]);
    const pause = (label: string) => scheduler.schedule(Promise.resolve(), label);

    const call = async ({ key, leaves }: (typeof callers)[number], index: number) => {
      await pause(`arrival ${index}`);
      const own = new AbortController();
      const gone = new Error("left");
      if (leaves) void pause(`departure ${index}`).then(() => own.abort(gone));
      const queue = queues.get(key) ?? [];
      queue.push(index);
      try {
        using _lock = await locks.acquire(key, { signal: own.signal });
        assert.ok(!holders.has(key), `two hold ${key}`);
        assert.equal(queue.shift(), index, "overtaken");
        holders.set(key, index);
        await pause(`step of ${index}`);
        holders.delete(key);
      } catch (error) {
        if (error !== gone) throw error;
        queue.splice(queue.indexOf(index), 1);
      }
    };

    await scheduler.waitFor(Promise.all(callers.map(call)));
    assert.equal(locks.size, 0);
  });
  await fc.assert(property, { numRuns: 400 });
});
