import assert from "node:assert/strict";
import { test } from "node:test";
import { BROKEN } from "./broken.fixture.ts";
import { runSeed } from "./guarded.ts";
import { checkOf } from "./violation.ts";

const SEEDS_MOST = 400;

for (const [defect, { checks, ...options }] of Object.entries(BROKEN)) {
  test(`the simulation finds ${defect}`, async () => {
    for (let seed = 1; seed <= SEEDS_MOST; seed += 1) {
      const { failure } = await runSeed(seed, options);
      if (failure === null) continue;
      assert.ok(checks.includes(checkOf(failure)), `seed ${seed}: ${checkOf(failure)}: ${failure.stack}`);
      return;
    }
    assert.fail(`${SEEDS_MOST} seeds have not found it`);
  });
}
