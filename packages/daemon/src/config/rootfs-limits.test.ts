import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig, type RootfsLimitSettings } from "./config.ts";

const limitsOf = (env: Record<string, string>): RootfsLimitSettings =>
  parseConfig({
    ...{ argv: [], env, host: { cpus: 2, memoryBytes: 2 ** 33, uid: 1000 } },
    defaults: { home: "home", agentPath: "agent", helperPath: "helper" },
  }).rootfsLimits;

test("what an image may come to is the builder's own limit, unless it is said", () => {
  assert.deepEqual(limitsOf({}), {});
  assert.deepEqual(limitsOf({ KILN_MAX_ROOTFS_ENTRIES: "10000000", KILN_MAX_UNPACK_RATIO: "1000", KILN_MAX_UNPACKED_BYTES: "" }), {
    maxEntries: 10_000_000,
    maxUnpackRatio: 1000,
  });
});

test("a limit that is no positive whole number is a usage error that names it", () => {
  for (const value of ["0", "-1", "1.5", "many", "1g"])
    assert.throws(() => limitsOf({ KILN_MAX_UNPACKED_BYTES: value }), { code: "USAGE", message: /KILN_MAX_UNPACKED_BYTES/ });
});
