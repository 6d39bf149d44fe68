/**
 * `npm run -s sim -- [--seeds N] [--first S] [--json] [--report]`: runs the programs of so many seeds, each in the order of its seed; the
 * exit code is 1 if one fails, and the smallest program that fails so is printed. `--seed S` runs one seed with its
 * trace; `--program FILE` one program, as they are kept.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type BatchResult, type Finding, runBatch } from "./batch.ts";
import { drawProgram } from "./draw.ts";
import { findShrunken } from "./find-shrunken.ts";
import { runGuarded } from "./guarded.ts";
import { parseKept } from "./kept.ts";
import type { Program } from "./program.ts";
import { withFigures } from "./report.ts";
import { checkOf } from "./violation.ts";

const DEFAULT_SEEDS = 10_000;
const WORKERS = 2;
/** Of so many different failures the smallest program is looked for. */
const SHRUNKEN_MOST = 3;
const PAGE = join(import.meta.dirname, "../../../docs/simulation.md");

const complain = (text: string): never => {
  process.stderr.write(`sim: ${text}\n`);
  process.exit(2);
};

const say = (text: string): void => void process.stdout.write(`${text}\n`);

const { values } = parseArgs({
  options: {
    ...{ seeds: { type: "string" }, first: { type: "string" }, seed: { type: "string" }, program: { type: "string" } },
    ...{ json: { type: "boolean" }, report: { type: "boolean" }, "no-shrink": { type: "boolean" } },
  },
});

const number = (name: string, text: string | undefined, fallback: number): number => {
  const value = Number(text ?? fallback);
  return Number.isSafeInteger(value) && value >= 0 ? value : complain(`--${name} ${text} is no whole number`);
};

const replay = async (program: Program, seed: number): Promise<void> => {
  const { failure, steps, trace } = await runGuarded(program, seed, { trace: true });
  if (values.json === true) return say(JSON.stringify({ seed, program, steps, failure: failure?.message ?? null, trace }));
  say(JSON.stringify(program));
  for (const [index, label] of trace.entries()) say(`${String(index + 1).padStart(6)} ${label}`);
  say(failure === null ? `seed ${seed}: all is well after ${steps} steps` : `seed ${seed}: ${checkOf(failure)}: ${failure.stack}`);
  process.exitCode = failure === null ? 0 : 1;
};

const showFinding = async ({ seed, check, message }: Finding): Promise<void> => {
  say(`seed ${seed}: ${check}: ${message}\n  npm run -s sim -- --seed ${seed}`);
  if (values["no-shrink"] === true) return;
  const shrunken = await findShrunken({ check, seed, program: drawProgram(seed) });
  say(`  shrunken, as a file for --program: ${JSON.stringify({ defect: message, ...shrunken })}`);
};

const showBatch = async (result: BatchResult, seconds: number): Promise<void> => {
  const { findings, ...figures } = result;
  if (values.json === true) return say(JSON.stringify({ ...figures, seconds, findings }));
  say(`${figures.schedules} schedules, ${figures.steps} steps, ${figures.crashes} crashes in ${seconds.toFixed(1)} s`);
  const checks = new Map(findings.toReversed().map((finding) => [finding.check, finding]));
  for (const [check, first] of checks) {
    say(`${check}: ${findings.filter((one) => one.check === check).length} seeds, the first is ${first.seed}`);
  }
  for (const finding of [...checks.values()].slice(0, SHRUNKEN_MOST)) await showFinding(finding);
};

if (values.program !== undefined) {
  const { program, seed } = parseKept(JSON.parse(readFileSync(values.program, "utf8")));
  await replay(program, number("seed", values.seed, seed));
} else if (values.seed !== undefined) {
  const seed = number("seed", values.seed, 0);
  await replay(drawProgram(seed), seed);
} else {
  const began = performance.now();
  const [first, count] = [number("first", values.first, 1), number("seeds", values.seeds, DEFAULT_SEEDS)];
  const result = await runBatch({ first, count, workers: WORKERS });
  const seconds = (performance.now() - began) / 1_000;
  await showBatch(result, seconds);
  if (result.findings.length > 0) process.exitCode = 1;
  else if (values.report === true) writeFileSync(PAGE, withFigures(readFileSync(PAGE, "utf8"), { ...result, seconds, first }));
}
