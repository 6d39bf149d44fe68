/**
 * `npm run -s fuzz -- [TARGET…] [--seconds N] [--seed S] [--grow] [--report]`: fuzzes each target for so many seconds. What is found is
 * minimised, printed and kept in the corpus; the exit code is then 1. `--grow` keeps small inputs that take new branches, too;
 * `--report` writes docs/fuzzing.md, for which all targets have to be run.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { addToCorpus, readCorpus } from "./engine/corpus.ts";
import type { Finding } from "./engine/messages.ts";
import { runSession } from "./engine/session.ts";
import { renderPage, type Row } from "./report.ts";
import { TARGETS } from "./targets/index.ts";

const DEFAULT_SECONDS = 10;
/** A corpus stays small enough to be read with each checkout. */
const CORPUS_BYTES = 36 << 10;
const PAGE = join(import.meta.dirname, "../../docs/fuzzing.md");

const complain = (text: string): never => {
  process.stderr.write(`fuzz: ${text}\n`);
  process.exit(2);
};

const say = (text: string): void => void process.stderr.write(`fuzz: ${text}\n`);

const keep = (target: string, finding: Finding): void => {
  const name = addToCorpus(target, Buffer.from(finding.input, "base64"), "found");
  say(`${target}: ${finding.kind}: ${finding.message}\n  test/fuzz/corpus/${target}/${name}`);
};

const grow = (target: string, grown: readonly string[]): number => {
  let room = CORPUS_BYTES - readCorpus(target).reduce((sum, { storedBytes }) => sum + storedBytes, 0);
  let added = 0;
  for (const input of grown.map((text) => Buffer.from(text, "base64"))) {
    if (room <= 0) break;
    const name = addToCorpus(target, input, "branch");
    room -= readCorpus(target).find((file) => file.name === name)?.storedBytes ?? 0;
    added += 1;
  }
  return added;
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: "string" }, seed: { type: "string" }, grow: { type: "boolean" }, report: { type: "boolean" } },
});
const number = (name: string, text: string | undefined, fallback: number): number => {
  const value = Number(text ?? fallback);
  return Number.isSafeInteger(value) && value >= 0 ? value : complain(`--${name} ${text} is no whole number`);
};
const seconds = number("seconds", values.seconds, DEFAULT_SECONDS);
const seed = number("seed", values.seed, Date.now() % 2 ** 31);
const unknown = positionals.find((name) => !Object.hasOwn(TARGETS, name));
if (unknown !== undefined) complain(`${unknown} is no target; there are ${Object.keys(TARGETS).join(", ")}`);
if (values.report === true && positionals.length > 0) complain("--report is about all targets");

const rows: Row[] = [];
for (const name of Object.keys(TARGETS).filter((one) => positionals.length === 0 || positionals.includes(one))) {
  const target = await TARGETS[name]?.();
  if (target === undefined) continue;
  const { findings, summary } = await runSession({
    target: name,
    seed,
    seconds,
    maxExecutions: null,
    only: [],
    grow: values.grow === true,
  });
  const { executions, accepted, features } = summary;
  const perSecond = Math.round(executions / Math.max(summary.cpuSeconds, 0.001));
  say(`${name}: ${executions} executions, ${perSecond} a second of CPU, ${accepted} accepted, ${features} features; --seed ${seed}`);
  for (const finding of findings) keep(name, finding);
  if (values.grow === true) say(`${name}: ${grow(name, summary.grown)} of ${summary.grown.length} new inputs are kept`);
  if (findings.length > 0) process.exitCode = 1;
  rows.push({ name, target, summary, open: findings.length, corpus: readCorpus(name) });
}
if (values.report === true) writeFileSync(PAGE, renderPage(rows, { seed }));
