import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { WIRE_HEADER_PATH, wireHeader } from "../../../../scripts/generate-wire.ts";
import { build, fuzzAgent } from "./test-guest.ts";

test("the guest's wire constants are those of the protocol", async () => {
  assert.equal(await readFile(WIRE_HEADER_PATH, "utf8"), wireHeader(), "run scripts/generate-wire.ts");
});

test("two builds of the agent in two directories are the same bytes, static and small", async () => {
  const [one, two] = await Promise.all([build(""), build("")]);
  assert.notEqual(one, two);
  const bytes = await readFile(one);
  assert.ok(bytes.equals(await readFile(two)));
  assert.ok(bytes.length < 200_000, `${bytes.length} bytes`);
  assert.equal(bytes.includes("/lib/ld-"), false);
});

/** What a run has time for; each rolls its own dice. `npm run soak -- agent` goes on for minutes. */
const SECONDS = 3;

test(`${SECONDS} seconds of hostile bytes find nothing in the agent's reading of the channel`, { timeout: 180_000 }, () =>
  fuzzAgent(SECONDS, { signal: AbortSignal.timeout(120_000) }),
);
