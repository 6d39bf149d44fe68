import assert from "node:assert/strict";
import { test } from "node:test";
import { BROKEN } from "./broken.fixture.ts";
import { runGuarded } from "./guarded.ts";
import { checkOf } from "./violation.ts";

const SEEDS_MOST = 300;

test("a core without a defect passes each of their programs", async () => {
  for (const { program } of Object.values(BROKEN)) {
    for (let seed = 1; seed <= 2; seed += 1) assert.ifError((await runGuarded(program, seed)).failure);
  }
});

for (const [defect, { checks, program, ...options }] of Object.entries(BROKEN)) {
  test(`the simulation finds ${defect}`, async (context) => {
    for (let seed = 1; seed <= SEEDS_MOST; seed += 1) {
      const { failure } = await runGuarded(program, seed, options);
      if (failure === null) continue;
      assert.ok(checks.includes(checkOf(failure)), `seed ${seed}: ${checkOf(failure)}: ${failure.stack}`);
      context.diagnostic(`seed ${seed}: ${checkOf(failure)}`);
      return;
    }
    assert.fail(`${SEEDS_MOST} seeds have not found it`);
  });
}
