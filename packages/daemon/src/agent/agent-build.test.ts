import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { runTool } from "@kiln/std/node";
import { WIRE_HEADER_PATH, wireHeader } from "../../../../scripts/generate-wire.ts";
import { build } from "./test-guest.ts";

const CORPUS = fileURLToPath(new URL("../../../../guest/agent/fuzz/corpus", import.meta.url));

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

test("ten seconds of hostile bytes find nothing in the agent's reading of the channel", { timeout: 180_000 }, async () => {
  const binary = await build("--fuzz");
  const scratch = await mkdtemp(join(tmpdir(), "kiln-fuzz-"));
  try {
    const args = [
      "-max_total_time=10",
      "-max_len=40000",
      "-timeout=10",
      "-print_final_stats=0",
      "-verbosity=0",
      `-artifact_prefix=${scratch}/`,
      scratch,
      CORPUS,
    ];
    await runTool(binary, args, { signal: AbortSignal.timeout(120_000), maxOutputBytes: 4_000_000 });
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
});
