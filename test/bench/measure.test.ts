import assert from "node:assert/strict";
import { test } from "node:test";
import { alternate, compare, percentile } from "./measure.ts";

test("percentiles are by nearest rank, and of nothing there is none", () => {
  assert.equal(percentile([5, 1, 3], 0.5), 3);
  assert.equal(percentile([5, 1, 3], 0.99), 5);
  assert.equal(percentile([], 0.5), null);
});

test("runs alternate and a failure is counted, not timed", async () => {
  const order: string[] = [];
  const samples = await alternate(2, {
    one: async () => {
      order.push("one");
      return 1;
    },
    two: async () => {
      order.push("two");
      throw new Error("broken");
    },
  });
  assert.deepEqual(order, ["one", "two", "one", "two"]);
  assert.deepEqual(samples["two"], { ms: [], failures: 2 });
});

test("a goal is missed above its limit, and where there is no figure", () => {
  const samples = (ms: number) => ({ ms: [ms], failures: 0 });
  const goal = { field: "floor", max: 1.35 };
  assert.equal(compare({ name: "x", ours: samples(13), theirs: { floor: samples(10) }, goal }).met, true);
  assert.equal(compare({ name: "x", ours: samples(14), theirs: { floor: samples(10) }, goal }).met, false);
  assert.equal(compare({ name: "x", ours: samples(14), theirs: { floor: { ms: [], failures: 1 } }, goal }).met, false);
});

test("of several goals all have to be met", () => {
  const samples = (ms: number) => ({ ms: [ms], failures: 0 });
  const both = (max: number) =>
    compare({
      name: "x",
      ours: samples(10),
      theirs: { floor: samples(8), other: samples(40) },
      goal: { field: "floor", max: 1.5 },
      furtherGoals: [{ field: "other", max }],
    });
  assert.deepEqual([both(0.25).met, both(0.24).met], [true, false]);
  assert.deepEqual(both(0.25).goals, [
    { field: "floor", max: 1.5 },
    { field: "other", max: 0.25 },
  ]);
});
