import assert from "node:assert/strict";
import { test } from "node:test";
import { runBatch } from "./batch.ts";
import { drawProgram } from "./draw.ts";
import { runProgram } from "./run-program.ts";

const SEEDS = 10_000;
const WORKERS = 2;

test("ten thousand random programs, each in an order of its own, break none of the invariants", async () => {
  const { schedules, findings } = await runBatch({ first: 1, count: SEEDS, workers: WORKERS });
  assert.deepEqual(findings, [], "npm run -s sim -- --seed S shows one");
  assert.equal(schedules, SEEDS);
});

test("the same seed takes the same steps", async () => {
  for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) {
    const [one, two] = [
      await runProgram(drawProgram(seed), seed, { trace: true }),
      await runProgram(drawProgram(seed), seed, { trace: true }),
    ];
    assert.deepEqual(one.trace, two.trace);
  }
});
