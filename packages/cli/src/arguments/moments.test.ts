import assert from "node:assert/strict";
import { test } from "node:test";
import { parseDuration, parseMoment } from "./moments.ts";

const NOW = Date.UTC(2026, 10, 21, 12);

test("durations are sums of numbers with units", () => {
  const table: readonly [string, number | null][] = [
    ["90s", 90_000],
    ["1h30m", 5_400_000],
    ["0.5h", 1_800_000],
    ["250ms", 250],
    ["2d", 172_800_000],
    ["90", null],
    ["", null],
    ["1h ", null],
    ["-5m", null],
  ];
  for (const [text, ms] of table) assert.equal(parseDuration(text), ms, text);
});

test("a moment is a time, or how long ago it was", () => {
  assert.equal(parseMoment("10m", "--since", NOW).toISOString(), "2026-11-21T11:50:00.000Z");
  assert.equal(parseMoment("2026-11-21T10:00:00+02:00", "--since", NOW).toISOString(), "2026-11-21T08:00:00.000Z");
  for (const text of ["yesterday", "12", "", "2026-13-01"]) assert.throws(() => parseMoment(text, "--since", NOW), { code: "USAGE" });
});
