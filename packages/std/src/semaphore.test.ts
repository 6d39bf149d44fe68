import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { QueueFullError, Semaphore } from "./semaphore.ts";

const forever = () => new AbortController().signal;
const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

describe("permits", () => {
  it("as many callers as the limit are inside at once, and no more", async () => {
    const semaphore = new Semaphore(2);
    const permits = await Promise.all([1, 2].map(() => semaphore.acquire({ signal: forever() })));
    const third = semaphore.acquire({ signal: forever() });
    await settle();
    assert.deepEqual([semaphore.active, semaphore.waiting], [2, 1]);
    permits[0]?.[Symbol.dispose]();
    (await third)[Symbol.dispose]();
    assert.deepEqual([semaphore.active, semaphore.waiting], [1, 0]);
  });

  it("a freed permit goes to the oldest waiter, not to a newcomer in the same turn", async () => {
    const semaphore = new Semaphore(1);
    const order: string[] = [];
    const held = await semaphore.acquire({ signal: forever() });
    const oldest = semaphore.acquire({ signal: forever() }).then((permit) => {
      order.push("oldest");
      return permit;
    });
    held[Symbol.dispose]();
    const newcomer = semaphore.acquire({ signal: forever() }).then(() => order.push("newcomer"));
    assert.equal(semaphore.active, 1);
    (await oldest)[Symbol.dispose]();
    await newcomer;
    assert.deepEqual(order, ["oldest", "newcomer"]);
  });

  it("disposing of a permit twice gives it back once", async () => {
    const semaphore = new Semaphore(1);
    const permit = await semaphore.acquire({ signal: forever() });
    permit[Symbol.dispose]();
    const other = await semaphore.acquire({ signal: forever() });
    permit[Symbol.dispose]();
    assert.equal(semaphore.active, 1);
    other[Symbol.dispose]();
    assert.equal(semaphore.active, 0);
  });

  it("a limit below 1 is refused", () => {
    for (const limit of [0, -1, 1.5, NaN]) assert.throws(() => new Semaphore(limit), RangeError);
  });
});

describe("waiting", () => {
  it("I11 a waiter leaves by its own signal and the others keep their order", async () => {
    const semaphore = new Semaphore(1);
    const held = await semaphore.acquire({ signal: forever() });
    const leaver = new AbortController();
    const leaving = semaphore.acquire({ signal: leaver.signal });
    const staying = semaphore.acquire({ signal: forever() });
    leaver.abort(new Error("left"));
    await assert.rejects(leaving, /left/);
    assert.equal(semaphore.waiting, 1);
    held[Symbol.dispose]();
    await staying;
  });

  it("I12 a thousand waiters hold no permit", async () => {
    const semaphore = new Semaphore(1);
    const held = await semaphore.acquire({ signal: forever() });
    const all = new AbortController();
    const waiters = Array.from({ length: 1000 }, () => semaphore.acquire({ signal: all.signal }));
    assert.deepEqual([semaphore.active, semaphore.waiting], [1, 1000]);
    all.abort(new Error("shutdown"));
    assert.ok((await Promise.allSettled(waiters)).every(({ status }) => status === "rejected"));
    held[Symbol.dispose]();
    assert.deepEqual([semaphore.active, semaphore.waiting], [0, 0]);
  });

  it("one more than maxWaiters is refused with QueueFullError", async () => {
    const semaphore = new Semaphore(1, { maxWaiters: 1 });
    const held = await semaphore.acquire({ signal: forever() });
    const waiting = semaphore.acquire({ signal: forever() });
    await assert.rejects(semaphore.acquire({ signal: forever() }), QueueFullError);
    held[Symbol.dispose]();
    await waiting;
  });

  it("each waiter is told its place, 1 being next, and only when it changes", async () => {
    const semaphore = new Semaphore(1);
    const held = await semaphore.acquire({ signal: forever(), onPosition: () => assert.fail("it never waited") });
    const told: string[] = [];
    const middle = new AbortController();
    const wait = (name: string, signal: AbortSignal) => semaphore.acquire({ signal, onPosition: (n) => told.push(`${name}${n}`) });
    const [a, b, c] = [wait("a", forever()), wait("b", middle.signal), wait("c", forever())];
    assert.deepEqual(told.splice(0), ["a1", "b2", "c3"]);
    middle.abort(new Error("b left"));
    await assert.rejects(b, /b left/);
    assert.deepEqual(told.splice(0), ["c2"]);
    held[Symbol.dispose]();
    assert.deepEqual(told.splice(0), ["c1"]);
    (await a)[Symbol.dispose]();
    await c;
    assert.deepEqual(told, []);
  });

  it("a position callback that throws takes only its own caller out", async () => {
    const semaphore = new Semaphore(1);
    const held = await semaphore.acquire({ signal: forever() });
    const onPosition = () => {
      throw new Error("the terminal is gone");
    };
    const broken = semaphore.acquire({ signal: forever(), onPosition });
    const sound = semaphore.acquire({ signal: forever() });
    await assert.rejects(broken, /the terminal is gone/);
    held[Symbol.dispose]();
    await sound;
    assert.equal(semaphore.active, 1);
  });
});

it("the limit, the order and I11 hold under every order of arrivals, departures and releases", async () => {
  const caller = fc.record({ leaves: fc.boolean(), steps: fc.nat({ max: 2 }) });
  const property = fc.asyncProperty(
    fc.scheduler(),
    fc.integer({ min: 1, max: 3 }),
    fc.array(caller, { maxLength: 8 }),
    async (scheduler, limit, callers) => {
      const semaphore = new Semaphore(limit);
      const pause = (label: string) => scheduler.schedule(Promise.resolve(), label);
      const arrived: number[] = [];
      let inside = 0;

      const call = async ({ leaves, steps }: (typeof callers)[number], index: number) => {
        await pause(`arrival ${index}`);
        const own = new AbortController();
        const gone = new Error("left");
        if (leaves) void pause(`departure ${index}`).then(() => own.abort(gone));
        arrived.push(index);
        try {
          using _permit = await semaphore.acquire({ signal: own.signal });
          assert.equal(arrived.shift(), index, "overtaken");
          inside += 1;
          assert.ok(inside <= limit && semaphore.active <= limit);
          assert.ok(semaphore.waiting === 0 || semaphore.active === limit, "a permit lies idle");
          for (let step = 0; step < steps; step += 1) await pause(`step of ${index}`);
          inside -= 1;
        } catch (error) {
          if (error !== gone) throw error;
          arrived.splice(arrived.indexOf(index), 1);
        }
      };

      await scheduler.waitFor(Promise.all(callers.map(call)));
      assert.deepEqual([semaphore.active, semaphore.waiting, inside], [0, 0, 0]);
    },
  );
  await fc.assert(property, { numRuns: 400 });
});
