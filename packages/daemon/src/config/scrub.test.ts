import assert from "node:assert/strict";
import { test } from "node:test";
import { type Config, parseConfig } from "./config.ts";

const scrubOf = (env: Readonly<Record<string, string>>): Config["scrub"] =>
  parseConfig({
    argv: [],
    env,
    host: { cpus: 1, memoryBytes: 2 ** 30, uid: 1000 },
    defaults: { home: "/home", agentPath: "", helperPath: "" },
  }).scrub;

test("what is kept is read once a day unless the daemon is told otherwise", () => {
  assert.deepEqual(scrubOf({}), { everyMs: 86_400_000, bytesPerSecond: 16 * 2 ** 20 });
  assert.deepEqual(scrubOf({ KILN_SCRUB: "" }), scrubOf({}));
  assert.deepEqual(scrubOf({ KILN_SCRUB: "12h", KILN_SCRUB_RATE: "1g" }), { everyMs: 43_200_000, bytesPerSecond: 2 ** 30 });
  assert.deepEqual(scrubOf({ KILN_SCRUB: "30s" })?.everyMs, 30_000);
  assert.equal(scrubOf({ KILN_SCRUB: "off" }), null);
});

for (const env of [
  { KILN_SCRUB: "daily" },
  { KILN_SCRUB: "0h" },
  { KILN_SCRUB: "-1d" },
  { KILN_SCRUB_RATE: "16" },
  { KILN_SCRUB_RATE: "0m" },
]) {
  test(`${JSON.stringify(env)} is refused with its name`, () => {
    assert.throws(() => scrubOf(env), { code: "USAGE", message: new RegExp(`^${Object.entries(env)[0]?.join("=")} is n`) });
  });
}
