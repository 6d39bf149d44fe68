import assert from "node:assert/strict";
import { test } from "node:test";
import { Scheduler } from "../scheduler.ts";
import { live } from "./live.fixture.ts";
import { SimWorld } from "./world.ts";

const play = async (seed: number): Promise<Scheduler> => {
  const scheduler = new Scheduler(seed, { trace: true, maxSteps: 20_000 });
  await scheduler.run(() => live(SimWorld.create(scheduler)));
  return scheduler;
};

test("the same seed gives the same steps", async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const [one, two] = [await play(seed), await play(seed)];
    assert.ok(one.steps > 100);
    assert.deepEqual(one.trace, two.trace);
  }
});
