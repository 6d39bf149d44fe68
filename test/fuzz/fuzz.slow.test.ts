import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { CORPUS, readCorpus } from "./engine/corpus.ts";
import { Dice } from "./engine/dice.ts";
import { minimise } from "./engine/minimise.ts";
import { runSession } from "./engine/session.ts";
import { FIXED } from "./findings.ts";
import { TARGETS } from "./targets/index.ts";

/** So many inputs, whatever time they take, and always the same: a change is what makes it fail. Time and other seeds are what `npm run fuzz` is for. */
const EXECUTIONS = 150;
const PATIENCE_S = 200;
const SEED = 20_261_121;

suite("fuzzing", () => {
  for (const target of Object.keys(TARGETS)) {
    test(`the corpus of ${target}, and ${EXECUTIONS} inputs that are made of it, show nothing`, { timeout: 300_000 }, async () => {
      const { findings, summary } = await runSession({
        target,
        seed: SEED,
        seconds: PATIENCE_S,
        maxExecutions: EXECUTIONS,
        only: [],
        grow: false,
      });
      const told = findings.map(({ kind, message, input }) => `${kind}: ${message}\nin base64: ${input}`);
      assert.deepEqual(told, [], `--seed ${SEED}`);
      assert.ok(summary.executions > 0 && summary.features > 50, `${summary.executions} executions, ${summary.features} features`);
      assert.ok(summary.accepted > 0, "something is accepted, so that more than refusals are looked at");
    });
  }

  test("everything that was found has its input in the corpus", () => {
    for (const { target, input } of FIXED) assert.ok(existsSync(join(CORPUS, target, input)), `${target}/${input}`);
    const known = new Set(FIXED.map(({ target, input }) => `${target}/${input}`));
    const found = Object.keys(TARGETS).flatMap((target) => readCorpus(target).map(({ name }) => `${target}/${name}`));
    for (const path of found.filter((one) => one.includes("/found-")))
      assert.ok(known.has(path), `${path} is fixed, and named in findings.ts`);
  });

  test("the page has a row for each target, and what was found", async () => {
    const page = await readFile(join(import.meta.dirname, "../../docs/fuzzing.md"), "utf8");
    for (const target of Object.keys(TARGETS)) assert.match(page, new RegExp(`^\\| ${target} \\|`, "m"));
    for (const { input } of FIXED) assert.ok(page.includes(input), input);
  });

  test("the corpora stay small", () => {
    const bytes = Object.keys(TARGETS).flatMap((target) => readCorpus(target).map(({ storedBytes }) => storedBytes));
    assert.ok(bytes.reduce((sum, one) => sum + one, 0) < 300 << 10);
    assert.ok(bytes.every((one) => one < 8 << 10));
  });
});

suite("the engine", () => {
  test("the same seed gives the same dice", () => {
    const roll = (seed: number): number[] => {
      const dice = new Dice(seed);
      return Array.from({ length: 50 }, () => dice.below(1000));
    };
    assert.deepEqual(roll(7), roll(7));
    assert.notDeepEqual(roll(7), roll(8));
  });

  test("minimising keeps what matters", async () => {
    const isSame = async (input: Buffer): Promise<boolean> => input.includes("x") && input.includes("yz");
    const best = await minimise(Buffer.from(`${"a".repeat(500)}x${"b".repeat(300)}yz${"c".repeat(99)}`), isSame, 3000);
    assert.equal(best.toString(), "xyz");
  });

  const findingsOf = async (target: string): Promise<string[]> => {
    const directory = await mkdtemp(join(tmpdir(), "kiln-fuzz-test-"));
    try {
      const input = join(directory, "input");
      writeFileSync(input, "input");
      const { findings } = await runSession({ target, seed: 1, seconds: 0, maxExecutions: null, only: [input], grow: false });
      return findings.map(({ kind }) => kind);
    } finally {
      await rm(directory, { recursive: true });
    }
  };

  for (const [defect, kind] of Object.entries({ throws: "error", fills: "memory", crashes: "crash", spins: "hang" })) {
    test(`a target that ${defect} is found out`, { timeout: 300_000 }, async () =>
      assert.deepEqual(await findingsOf(`broken-${defect}`), [kind]),
    );
  }

  test("the command line says what it knows", () => {
    const command = join(import.meta.dirname, "main.ts");
    const { status, stderr } = spawnSync(process.execPath, [command, "no-such-target"], { encoding: "utf8" });
    assert.equal(status, 2);
    assert.match(stderr, /no-such-target is no target; there are tar, pax/);
  });
});
