import assert from "node:assert/strict";
import { test } from "node:test";
import { SimDisk } from "./disk.ts";
import { Life } from "./life.ts";
import { Scheduler, StuckError } from "./scheduler.ts";
import { firstFailure, runSeed } from "./seeds.ts";

const never = new AbortController().signal;
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (found: Uint8Array | null): string | null => (found === null ? null : new TextDecoder().decode(found));

const race = async (scheduler: Scheduler): Promise<void> => {
  let count = 0;
  const add = async (): Promise<void> => {
    const seen = count;
    await scheduler.step("between");
    count = seen + 1;
  };
  await Promise.all([add(), scheduler.step("wait").then(add)]);
  assert.equal(count, 2);
};

test("a race shows under some seed, and the same seed shows it again in the same steps", async () => {
  const found = await firstFailure(race, { count: 100 });
  assert.notEqual(found, null);
  const seed = found?.seed ?? 0;
  const [one, two] = [new Scheduler(seed, { trace: true }), new Scheduler(seed, { trace: true })];
  await assert.rejects(one.run(() => race(one)));
  await assert.rejects(two.run(() => race(two)));
  assert.deepEqual(one.trace, two.trace);
});

test("a seed without the bad order passes", async () => {
  const verdicts = await Promise.all(Array.from({ length: 20 }, (_, seed) => runSeed(seed, race)));
  assert.ok(verdicts.some(({ failure }) => failure === null));
});

test("whoever waits for nobody is stuck", async () => {
  const { failure } = await runSeed(1, () => new Promise<void>(() => undefined));
  assert.ok(failure instanceof StuckError);
});

test("a timer wakes when nobody else can go on, without waiting for it", async () => {
  const scheduler = new Scheduler(1);
  const clock = scheduler.clockOf();
  const began = clock.monotonicMs();
  await scheduler.run(() => clock.sleep(3_600_000, { signal: never }));
  assert.equal(clock.monotonicMs() - began, 3_600_000);
});

test("an ended life never goes on, and runs no finally", async () => {
  const scheduler = new Scheduler(1);
  const life = new Life("one");
  const seen: string[] = [];
  const work = async (): Promise<void> => {
    try {
      await scheduler.step("in the middle", life);
      seen.push("went on");
    } finally {
      seen.push("finally");
    }
  };
  await scheduler.run(async () => {
    void work();
    life.end();
    await scheduler.step("later");
    await scheduler.clockOf().sleep(1_000, { signal: never });
  });
  assert.deepEqual(seen, []);
});

test("a power failure may lose what was not synced, never what was", async () => {
  const outcomes = new Set<string | null>();
  for (let seed = 0; seed < 60; seed += 1) {
    const scheduler = new Scheduler(seed);
    const disk = new SimDisk(scheduler);
    await scheduler.run(async () => {
      const files = disk.filesOf();
      await files.create("/a/safe");
      await files.append("/a/safe", bytes("synced"));
      await files.sync("/a/safe");
      await files.syncDirectory("/a");
      await files.create("/a/new");
      await files.append("/a/new", bytes("not synced"));
      disk.losePower();
    });
    assert.equal(text(disk.peek("/a/safe")), "synced");
    outcomes.add(text(disk.peek("/a/new")));
  }
  assert.deepEqual(outcomes, new Set([null, "", "not synced"]));
});

test("a reader sees a file half written", async () => {
  const seen = new Set<number>();
  for (let seed = 0; seed < 200; seed += 1) {
    const scheduler = new Scheduler(seed);
    const files = new SimDisk(scheduler).filesOf();
    await scheduler.run(async () => {
      await files.create("/f");
      const look = async (): Promise<void> => void seen.add((await files.read("/f")).length);
      await Promise.all([files.append("/f", bytes("x".repeat(48))), look()]);
    });
  }
  assert.deepEqual(seen, new Set([0, 16, 32, 48]));
});
