import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { compareTrees, CHECKS } from "./differences.ts";
import { KINDS } from "./kinds.ts";
import { REASONS } from "./reasons.ts";
import { readRuns, renderRuns } from "./runs.ts";
import { stacks } from "./stack.ts";
import { GENERATED, IMAGES, compareNamed, compareStack } from "./subjects.ts";
import { CHECKS_HEAD } from "./table.ts";
import { scratchBinary, skipImages } from "../fixtures/images.ts";
import { compareImage } from "./compare-image.ts";
import type { Entry } from "./tree.ts";

const missing = ["umoci", "getfattr", "setfattr", "python3", "mount"].find(
  (tool) => spawnSync("sh", ["-c", `command -v ${tool}`]).status !== 0,
);
const skip = skipImages || (missing === undefined ? false : `${missing} is not installed`);
const timeout = 300_000;
const signal = AbortSignal.timeout(timeout);

for (const image of Object.keys(IMAGES)) {
  test(`every entry of the image is as umoci unpacks it: ${image}`, { skip, timeout }, async () => {
    const { comparisons } = await compareNamed(image, { signal });
    assert.deepEqual(
      comparisons.flatMap(({ unexplained }) => unexplained),
      [],
    );
  });
}

/** What a run has time for; each draws others. */
const RUNS = 20;

test("every entry of a generated image is as umoci unpacks it", { skip, timeout }, async () => {
  let compared = 0;
  await fc.assert(
    fc.asyncProperty(stacks, async (stack) => {
      const comparison = await compareStack(stack, { signal });
      compared += comparison?.counts.name ?? 0;
      assert.deepEqual(comparison?.unexplained ?? [], []);
    }),
    { numRuns: RUNS },
  );
  assert.ok(compared > RUNS, `${compared} entries`);
});

test("a difference in any of the checks, and a name that is missing, is found and has no reason", { skip, timeout }, async () => {
  const { layout, tag } = await scratchBinary({ signal });
  const found = { directory: layout, tag };
  const comparison = await compareImage({ ours: found, theirs: found, inThread: true }, { signal });
  assert.ok(comparison !== null);
  const theirs = comparison.ours;
  const [path, entry] = [...theirs].find(([, { type }]) => type === "file") ?? [];
  assert.ok(path !== undefined && entry !== undefined);
  const sides = { ours: theirs, theirs, named: new Set([path]), implied: new Set<string>(), cleared: new Set<string>() };
  const find = (changed: Map<string, Entry>): string[] => {
    const { differences } = compareTrees(changed, theirs);
    assert.ok(differences.every((difference) => REASONS.every(({ explains }) => !explains(difference, sides))));
    return differences.map(({ check }) => check);
  };
  for (const check of CHECKS) assert.deepEqual(find(new Map(theirs).set(path, { ...entry, [check]: "other" })), [check]);
  assert.deepEqual(find(new Map([...theirs].filter(([name]) => name !== path))), ["name"]);
  assert.deepEqual(find(new Map(theirs).set("./more", entry)), ["name"]);
});

test("the page has a row for each image and a column for each check, and no difference without a reason", async () => {
  const page = await readFile(join(import.meta.dirname, "../../docs/image-comparison.md"), "utf8");
  const cells = page.split("\n").map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
  assert.ok(
    cells.some((row) => row.join() === CHECKS_HEAD.join()),
    "`npm run compare` writes the page again",
  );
  for (const image of [...Object.keys(IMAGES), GENERATED]) {
    const row = cells.find(([name, , ...rest]) => name === image && rest.length === CHECKS_HEAD.length - 2);
    assert.equal(row?.at(-1), "0", `${image}: \`npm run compare\` writes the page again`);
  }
  for (const { text } of REASONS) assert.ok(page.includes(text), text);
});

test("the page's section on stacks by the thousand is what the runs found, and none found a difference without a reason", async () => {
  const page = await readFile(join(import.meta.dirname, "../../docs/image-comparison.md"), "utf8");
  const runs = await readRuns();
  assert.ok(page.endsWith(renderRuns(runs)), "`npm run compare -- --stacks N --seed S` writes the section again");
  assert.ok(runs.length > 0);
  for (const { seed, unexplained, kinds } of runs) {
    assert.equal(unexplained, 0, `seed ${seed}`);
    assert.deepEqual(Object.keys(kinds), Object.keys(KINDS), `seed ${seed}`);
  }
});
