import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parseKept } from "./kept.ts";
import { runGuarded } from "./guarded.ts";

const DIRECTORY = join(import.meta.dirname, "kept");
/** What has changed in Kiln since orders the same steps differently: the schedules beside the one that showed it, too. */
const SEEDS_EACH = 20;

for (const file of readdirSync(DIRECTORY).filter((name) => name.endsWith(".json"))) {
  const { defect, seed, program } = parseKept(JSON.parse(readFileSync(join(DIRECTORY, file), "utf8")));
  test(`${file}: no more: ${defect}`, async () => {
    for (const one of [seed, ...Array.from({ length: SEEDS_EACH }, (_, index) => index + 1)]) {
      const { failure } = await runGuarded(program, one);
      assert.ifError(failure);
    }
  });
}
