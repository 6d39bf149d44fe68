import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Deferred } from "./deferred.ts";
import { SingleFlight, type WorkContext } from "./single-flight.ts";

const forever = () => new AbortController().signal;

/** Lets every promise settle that can. */
const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Whether a promise has settled by now. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const note = () => {
    settled = true;
  };
  promise.then(note, note);
  await settle();
  return settled;
}

/** Work that stops when told to: it resolves by `finish`, and after an abort only by `stopped`. */
function heldWork() {
  const finish = new Deferred<string>();
  const stopped = new Deferred<void>();
  const seen = { runs: 0, aborted: false };
  const work = async ({ signal }: WorkContext<string>) => {
    seen.runs += 1;
    const aborted = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    const first = await Promise.race([finish.promise, aborted]);
    if (typeof first === "string") return first;
    seen.aborted = true;
    await stopped.promise;
    throw signal.reason;
  };
  return { finish, stopped, seen, work };
}

describe("joining", () => {
  it("I1 a hundred callers of one key cause one run and all get its result", async () => {
    const flights = new SingleFlight<string, string, string>();
    const held = heldWork();
    let joined = 0;
    const answers = Array.from({ length: 100 }, () => flights.run("k", held.work, { signal: forever(), onJoin: () => (joined += 1) }));
    await settle();
    assert.equal(flights.waiters("k"), 100);
    assert.equal(joined, 99);
    held.finish.resolve("built");
    assert.deepEqual(new Set(await Promise.all(answers)), new Set(["built"]));
    assert.equal(held.seen.runs, 1);
    assert.equal(flights.waiters("k"), 0);
  });

  it("I2 different keys are in their work at the same time", async () => {
    const flights = new SingleFlight<string, string>();
    const everyoneInside = new Deferred<void>();
    let inside = 0;
    const answers = ["a", "b", "c"].map((key) =>
      flights.run(
        key,
        async () => {
          inside += 1;
          if (inside === 3) everyoneInside.resolve();
          await everyoneInside.promise;
          return key;
        },
        { signal: forever() },
      ),
    );
    assert.deepEqual(await Promise.all(answers), ["a", "b", "c"]);
  });

  it("a success is not kept: the next caller runs the work again", async () => {
    const flights = new SingleFlight<string, number>();
    let runs = 0;
    const work = async () => (runs += 1);
    assert.equal(await flights.run("k", work, { signal: forever() }), 1);
    assert.equal(await flights.run("k", work, { signal: forever() }), 2);
  });

  it("a joiner is told the latest progress at once and each later one", async () => {
    const flights = new SingleFlight<string, string, number>();
    const finish = new Deferred<string>();
    let report: ((n: number) => void) | undefined;
    const work = (context: WorkContext<number>) => {
      report = (n) => context.report(n);
      return finish.promise;
    };
    const early: number[] = [];
    const late: number[] = [];
    const first = flights.run("k", work, { signal: forever(), onProgress: (n) => early.push(n) });
    report?.(1);
    report?.(2);
    const second = flights.run("k", work, { signal: forever(), onProgress: (n) => late.push(n) });
    report?.(3);
    finish.resolve("done");
    await Promise.all([first, second]);
    assert.deepEqual(early, [1, 2, 3]);
    assert.deepEqual(late, [2, 3]);
  });

  it("a progress callback that throws takes only its own caller out", async () => {
    const flights = new SingleFlight<string, string, number>();
    const go = new Deferred<void>();
    const work = async (context: WorkContext<number>) => {
      await go.promise;
      context.report(1);
      return "built";
    };
    const onProgress = () => {
      throw new Error("the terminal is gone");
    };
    const broken = flights.run("k", work, { signal: forever(), onProgress });
    const sound = flights.run("k", work, { signal: forever() });
    go.resolve();
    await assert.rejects(broken, /the terminal is gone/);
    assert.equal(await sound, "built");
  });
});

describe("failing", () => {
  it("I13 a failure goes to all who waited, with its own cause, and the next caller starts afresh", async () => {
    const flights = new SingleFlight<string, string>();
    const fail = new Deferred<string>();
    const work = () => fail.promise;
    const answers = [1, 2, 3].map(() => flights.run("k", work, { signal: forever() }));
    const cause = new Error("the registry hung up");
    fail.reject(cause);
    for (const answer of await Promise.allSettled(answers)) {
      assert.ok(answer.status === "rejected" && answer.reason === cause);
    }
    assert.equal(await flights.run("k", async () => "built", { signal: forever() }), "built");
  });

  it("I13 work that throws before its first await fails like any other", async () => {
    const flights = new SingleFlight<string, string>();
    const work = () => {
      throw new Error("no such key");
    };
    await assert.rejects(flights.run("k", work, { signal: forever() }), /no such key/);
    assert.equal(flights.waiters("k"), 0);
  });
});

describe("leaving", () => {
  it("I11 a caller leaves at once while the work goes on for the others", async () => {
    const flights = new SingleFlight<string, string, string>();
    const held = heldWork();
    const leaver = new AbortController();
    const leaving = flights.run("k", held.work, { signal: leaver.signal });
    const staying = flights.run("k", held.work, { signal: forever() });
    leaver.abort(new Error("Ctrl-C"));
    await assert.rejects(leaving, /Ctrl-C/);
    assert.equal(flights.waiters("k"), 1);
    held.finish.resolve("built");
    assert.equal(await staying, "built");
    assert.equal(held.seen.aborted, false);
  });

  it("I11 when the last leaves the work stops, and that call returns only after it has", async () => {
    const flights = new SingleFlight<string, string, string>();
    const held = heldWork();
    const [a, b] = [new AbortController(), new AbortController()];
    const first = flights.run("k", held.work, { signal: a.signal });
    const last = flights.run("k", held.work, { signal: b.signal });
    a.abort(new Error("first left"));
    await assert.rejects(first, /first left/);
    assert.equal(held.seen.aborted, false);
    b.abort(new Error("last left"));
    assert.equal(await isSettled(last), false);
    assert.equal(held.seen.aborted, true);
    held.stopped.resolve();
    await assert.rejects(last, /last left/);
  });

  it("I11 many callers of one signal leave together and the work stops once", async () => {
    const flights = new SingleFlight<string, string, string>();
    const held = heldWork();
    const all = new AbortController();
    const answers = [1, 2, 3].map(() => flights.run("k", held.work, { signal: all.signal }));
    all.abort(new Error("shutdown"));
    held.stopped.resolve();
    for (const answer of answers) await assert.rejects(answer, /shutdown/);
    assert.equal(held.seen.runs, 1);
  });

  it("I13 a caller that comes during the cancellation waits for its end and starts afresh", async () => {
    const flights = new SingleFlight<string, string, string>();
    const held = heldWork();
    const leaver = new AbortController();
    const leaving = flights.run("k", held.work, { signal: leaver.signal });
    leaver.abort(new Error("gone"));
    let ran = false;
    const fresh = async () => {
      ran = true;
      return "fresh";
    };
    const late = [1, 2].map(() => flights.run("k", fresh, { signal: forever() }));
    await settle();
    assert.equal(ran, false);
    held.stopped.resolve();
    await assert.rejects(leaving, /gone/);
    assert.deepEqual(await Promise.all(late), ["fresh", "fresh"]);
  });

  it("I11 a caller can leave while it waits for a cancellation to end", async () => {
    const flights = new SingleFlight<string, string, string>();
    const held = heldWork();
    const [a, b] = [new AbortController(), new AbortController()];
    const leaving = flights.run("k", held.work, { signal: a.signal });
    a.abort(new Error("a left"));
    const late = flights.run("k", held.work, { signal: b.signal });
    b.abort(new Error("b left"));
    await assert.rejects(late, /b left/);
    held.stopped.resolve();
    await assert.rejects(leaving, /a left/);
    assert.equal(held.seen.runs, 1);
  });

  it("a caller whose signal has aborted already starts nothing", async () => {
    const flights = new SingleFlight<string, string, string>();
    const held = heldWork();
    const signal = AbortSignal.abort(new Error("too late"));
    await assert.rejects(flights.run("k", held.work, { signal }), /too late/);
    assert.equal(held.seen.runs, 0);
  });
});

/** One run of the work; thrown by itself if it is to fail. */
class Run extends Error {
  readonly id: number;
  running = true;
  /** The callers that wait for it. */
  readonly members = new Set<number>();

  constructor(id: number) {
    super(`run ${id}`);
    this.id = id;
  }
}

interface Caller {
  readonly key: "a" | "b";
  readonly leaves: boolean;
  readonly fails: boolean;
}

/** Callers and work whose every step is put in order by the scheduler, with the invariants asserted at each. */
class World {
  readonly flights = new SingleFlight<string, Run>();
  readonly current = new Map<string, Run>();
  readonly #pause: (label: string) => Promise<unknown>;
  #runs = 0;

  constructor(pause: (label: string) => Promise<unknown>) {
    this.#pause = pause;
  }

  async call({ key, leaves, fails }: Caller, index: number): Promise<void> {
    await this.#pause(`arrival ${index}`);
    const inTime = this.current.get(key);
    const before = this.#runs;
    const own = new AbortController();
    const gone = new Error(`caller ${index} left`);
    if (leaves) void this.#pause(`departure ${index}`).then(() => own.abort(gone));
    let member: Run | undefined;
    const onJoin = () => {
      member = this.current.get(key);
      member?.members.add(index);
    };
    const work = ({ signal }: { signal: AbortSignal }) => {
      const running = this.#build(key, fails, signal);
      onJoin();
      return running;
    };
    const outcome: unknown = await this.flights.run(key, work, { signal: own.signal, onJoin }).catch((error: unknown) => error);
    member?.members.delete(index);
    if (outcome === gone) {
      assert.ok(member?.running !== true || member.members.size > 0, "the last returned while the work went on");
      return;
    }
    assert.ok(outcome instanceof Run, `caller ${index} got ${String(outcome)}`);
    assert.equal(outcome.running, false);
    assert.ok(outcome === inTime || outcome.id >= before, "a result older than its caller");
  }

  async #build(key: string, fails: boolean, signal: AbortSignal): Promise<Run> {
    assert.ok(!this.current.has(key), `two runs of ${key} at once`);
    const run = new Run(this.#runs);
    this.#runs += 1;
    this.current.set(key, run);
    try {
      for (let step = 0; step < 3; step += 1) {
        await this.#pause(`step of ${key}`);
        assert.equal(signal.aborted, this.flights.waiters(key) === 0, "the work aborts with its last caller");
        signal.throwIfAborted();
      }
      if (fails) throw run;
      return run;
    } finally {
      await this.#pause(`cleanup of ${key}`);
      run.running = false;
      this.current.delete(key);
    }
  }
}

it("I1 I2 I10 I11 I12 I13 hold under every order of arrivals, departures, steps and failures", async () => {
  const caller = fc.record({ key: fc.constantFrom("a", "b"), leaves: fc.boolean(), fails: fc.boolean() });
  const property = fc.asyncProperty(fc.scheduler(), fc.array(caller, { minLength: 2, maxLength: 7 }), async (scheduler, callers) => {
    const world = new World((label) => scheduler.schedule(Promise.resolve(), label));
    await scheduler.waitFor(Promise.all(callers.map((one, index) => world.call(one, index))));
    await scheduler.waitIdle();
    assert.equal(world.current.size, 0, "work goes on without a caller");
    for (const key of ["a", "b"]) assert.equal(world.flights.waiters(key), 0);
  });
  await fc.assert(property, { numRuns: 400 });
});
