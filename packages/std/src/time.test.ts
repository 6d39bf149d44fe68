import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  Deferred,
  FakeClock,
  abortable,
  randomFraction,
  randomHex,
  retry,
  seededRandom,
  signalAfter,
  systemClock,
  systemRandom,
  withDeadline,
} from "./index.ts";

const forever = () => new AbortController().signal;

describe("abortable", () => {
  it("passes the promise's value and error through", async () => {
    assert.equal(await abortable(Promise.resolve(1), forever()), 1);
    await assert.rejects(abortable(Promise.reject(new Error("broken")), forever()), /broken/);
  });

  it("gives up at the abort, and a later failure of the promise is not unhandled", async () => {
    const slow = new Deferred<void>();
    const leaver = new AbortController();
    const waiting = abortable(slow.promise, leaver.signal);
    leaver.abort(new Error("left"));
    await assert.rejects(waiting, /left/);
    slow.reject(new Error("nobody hears this"));
    await systemClock.sleep(0, { signal: forever() });
  });
});

describe("the system clock", () => {
  it("sleeps at least as long as asked", async () => {
    const startMs = systemClock.monotonicMs();
    await systemClock.sleep(15, { signal: forever() });
    assert.ok(systemClock.monotonicMs() - startMs >= 14);
  });

  it("wakes at the abort, also from a sleep longer than any timer", async () => {
    for (const ms of [2 ** 40, Infinity]) {
      await assert.rejects(systemClock.sleep(ms, { signal: AbortSignal.timeout(5) }), { name: "TimeoutError" });
    }
  });
});

describe("the fake clock", () => {
  it("wakes sleepers in the order of their due times", async () => {
    const clock = new FakeClock(1_000);
    const woken: string[] = [];
    const sleeps = [30, 10, 20].map((ms) => clock.sleep(ms, { signal: forever() }).then(() => woken.push(`${ms} at ${clock.now()}`)));
    await clock.elapse(30);
    await Promise.all(sleeps);
    assert.deepEqual(woken, ["10 at 1010", "20 at 1020", "30 at 1030"]);
  });

  it("plays out a chain of sleeps, and an aborted sleeper is gone", async () => {
    const clock = new FakeClock();
    const chain = (async () => {
      for (let n = 0; n < 3; n += 1) await clock.sleep(10, { signal: forever() });
      return clock.monotonicMs();
    })();
    const leaver = new AbortController();
    const left = clock.sleep(5, { signal: leaver.signal });
    await clock.untilSleeping(2);
    leaver.abort(new Error("left"));
    await assert.rejects(left, /left/);
    await clock.elapse(100);
    assert.equal(await chain, 30);
    assert.equal(clock.sleeping, 0);
  });
});

describe("retry", () => {
  it("tries until it succeeds, with pauses that double up to the limit", async () => {
    const clock = new FakeClock();
    const at: number[] = [];
    const attempt = async (n: number) => {
      at.push(clock.monotonicMs());
      if (n < 5) throw new Error(`attempt ${n}`);
      return n;
    };
    const answer = retry(attempt, { attempts: 5, baseMs: 10, maxMs: 30, clock, signal: forever() });
    await clock.elapse(1_000);
    assert.equal(await answer, 5);
    assert.deepEqual(at, [0, 10, 30, 60, 90]);
  });

  it("fails with the last attempt's own error, and at once where a retry cannot help", async () => {
    const clock = new FakeClock();
    let tried = 0;
    const attempt = async (n: number) => {
      tried = n;
      throw new Error(`attempt ${n}`);
    };
    const options = { attempts: 3, baseMs: 0, maxMs: 0, clock, signal: forever() };
    const failing = assert.rejects(retry(attempt, options), /attempt 3/);
    await clock.elapse(1);
    await failing;
    await assert.rejects(retry(attempt, { ...options, shouldRetry: () => false }), /attempt 1/);
    assert.equal(tried, 1);
  });

  it("an abort ends the pause", async () => {
    const clock = new FakeClock();
    const leaver = new AbortController();
    const attempt = () => Promise.reject(new Error("down"));
    const answer = retry(attempt, { attempts: 3, baseMs: 10, maxMs: 10, clock, signal: leaver.signal });
    await clock.untilSleeping(1);
    leaver.abort(new Error("left"));
    await assert.rejects(answer, /left/);
    assert.equal(clock.sleeping, 0);
  });

  it("a random source spreads the pauses between half and all", async () => {
    const clock = new FakeClock();
    const pauses: number[] = [];
    const watched = { ...clockPort(clock), sleep: async (ms: number) => void pauses.push(ms) };
    const attempt = () => Promise.reject(new Error("down"));
    const options = { attempts: 50, baseMs: 100, maxMs: 100, clock: watched, random: seededRandom(7), signal: forever() };
    await assert.rejects(retry(attempt, options), /down/);
    assert.ok(pauses.every((ms) => ms >= 50 && ms < 100) && new Set(pauses).size > 40);
  });
});

const clockPort = (clock: FakeClock) => ({ now: () => clock.now(), monotonicMs: () => clock.monotonicMs() });

describe("a deadline", () => {
  const onTimeout = () => new Error("5000 ms are over");

  it("passes the result on and leaves no timer", async () => {
    const clock = new FakeClock();
    assert.equal(await withDeadline(5_000, async () => "done", { signal: forever(), clock, onTimeout }), "done");
    assert.equal(clock.sleeping, 0);
  });

  it("aborts the run, waits until it has stopped, and names its error as the cause", async () => {
    const clock = new FakeClock();
    const stopped = new Deferred<void>();
    let returned = false;
    const run = async (signal: AbortSignal) => {
      await abortable(new Promise(() => undefined), signal).catch(() => stopped.promise);
      throw new Error("the guest is silent");
    };
    const answer = withDeadline(5_000, run, { signal: forever(), clock, onTimeout }).finally(() => (returned = true));
    const check = assert.rejects(answer, (error: Error) => {
      assert.match(error.message, /5000 ms are over/);
      assert.match(String(error.cause), /the guest is silent/);
      return true;
    });
    await clock.elapse(5_000);
    assert.equal(returned, false);
    stopped.resolve();
    await check;
  });

  it("a result that comes in spite of the deadline is not lost", async () => {
    const clock = new FakeClock();
    const late = new Deferred<string>();
    const answer = withDeadline(10, () => late.promise, { signal: forever(), clock, onTimeout });
    await clock.elapse(20);
    late.resolve("made anyway");
    assert.equal(await answer, "made anyway");
  });

  it("the caller's abort reaches the run with its reason", async () => {
    const clock = new FakeClock();
    const leaver = new AbortController();
    const run = (signal: AbortSignal) => abortable(new Promise<never>(() => undefined), signal);
    const answer = withDeadline(10, run, { signal: leaver.signal, clock, onTimeout });
    leaver.abort(new Error("left"));
    await assert.rejects(answer, /left/);
    assert.equal(clock.sleeping, 0);
  });
});

describe("a signal after some time", () => {
  it("aborts when the time is over on its clock, with a TimeoutError", async () => {
    const clock = new FakeClock();
    using patience = signalAfter(5_000, clock);
    await clock.elapse(4_999);
    assert.equal(patience.signal.aborted, false);
    await clock.elapse(1);
    assert.throws(() => patience.signal.throwIfAborted(), { name: "TimeoutError" });
  });

  it("never aborts after its disposal, and leaves no timer", async () => {
    const clock = new FakeClock();
    const patience = signalAfter(5_000, clock);
    patience[Symbol.dispose]();
    await clock.elapse(10_000);
    assert.deepEqual([patience.signal.aborted, clock.sleeping], [false, 0]);
  });
});

describe("random sources", () => {
  it("the system's gives no bytes twice, whatever is asked for and done with them", () => {
    const drawn = Array.from({ length: 5_000 }, (_, index) => systemRandom.bytes(12 + (index % 60)));
    const texts = drawn.map((bytes) => bytes.join());
    const beginnings = drawn.flatMap((bytes) =>
      Array.from({ length: Math.floor(bytes.length / 12) }, (_, at) => bytes.slice(at * 12, at * 12 + 12).join()),
    );
    assert.equal(new Set(beginnings).size, beginnings.length);
    for (const bytes of drawn.slice(1)) bytes.fill(0);
    assert.equal(drawn[0]?.join(), texts[0]);
    assert.ok(systemRandom.bytes(32).some((byte) => byte !== 0));
  });

  it("the system's draws any number of bytes, as hex two digits each", () => {
    assert.equal(systemRandom.bytes(200_000).length, 200_000);
    assert.match(randomHex(systemRandom, 16), /^[0-9a-f]{32}$/);
    assert.notEqual(randomHex(systemRandom, 16), randomHex(systemRandom, 16));
  });

  it("a seeded one draws the same again, in every range", () => {
    assert.equal(randomHex(seededRandom(1), 32), randomHex(seededRandom(1), 32));
    assert.notEqual(randomHex(seededRandom(1), 32), randomHex(seededRandom(2), 32));
    const source = seededRandom(3);
    const fractions = Array.from({ length: 1_000 }, () => randomFraction(source));
    assert.ok(fractions.every((x) => x >= 0 && x < 1));
    assert.ok(Math.abs(fractions.reduce((a, b) => a + b) / 1_000 - 0.5) < 0.05);
  });
});
