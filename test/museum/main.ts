/**
 * `npm run -s museum [-- ID…] [--seeds N] | ID --seed S [--naive] | --write`: plays each exhibit under so many seeds, the
 * naive way and Kiln's. The exit code is 1 if a naive way passes all of them, or Kiln fails one.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Scheduler } from "../sim/scheduler.ts";
import type { Exhibit } from "./exhibit.ts";
import { exhibits } from "./exhibits.ts";
import { complaintsOf, judge, type Judgement } from "./judge.ts";
import { renderPage } from "./page.ts";
import { outcomeOf } from "./stage.ts";

const PAGE = join(import.meta.dirname, "../../docs/museum.md");

const print = (text = ""): void => void process.stdout.write(`${text}\n`);

const complain = (text: string): never => {
  process.stderr.write(`museum: ${text}\n`);
  process.exit(2);
};

const number = (name: string, text: string): number => {
  const value = Number(text);
  return Number.isSafeInteger(value) && value >= 1 ? value : complain(`--${name} ${text} is no whole number from 1 on`);
};

/** What a whole daemon does with its files, with a guest, and in one step of a saga is one line. */
const groupOf = (text: string): string => text.replace(/^(daemon \d+: (?:disk|guest|vmm|vm\.\w+\.\w+))\..*$/, "$1");

/** With their numbers; several in a row of the same kind are one line. */
const stepsOf = (trace: readonly string[]): readonly string[] => {
  let step = 0;
  const lines: string[] = [];
  for (let at = 0; at < trace.length;) {
    const text = trace[at] ?? "";
    if (text.startsWith("  ")) {
      lines.push(`         ${text.trimStart()}`);
      at += 1;
      continue;
    }
    let times = 1;
    while (groupOf(trace[at + times] ?? "") === groupOf(text)) times += 1;
    const last = trace[at + times - 1] ?? "";
    const ending = last === text ? "" : ` … ${last.slice(last.indexOf(": ") + 2)}`;
    lines.push(`  ${String(step + 1).padStart(4)} ${text}${ending}${times === 1 ? "" : `, ${times} ${ending === "" ? "times" : "steps"}`}`);
    step += times;
    at += times;
  }
  return lines;
};

/** One order, step by step: who goes on, with what; indented, what they say about it. */
const playSeed = async (
  exhibit: Exhibit,
  { seed, isNaive, maxLines = Infinity }: { seed: number; isNaive: boolean; maxLines?: number },
): Promise<boolean> => {
  const scheduler = new Scheduler(seed, { trace: true });
  const side = isNaive ? exhibit.naive : exhibit.kiln;
  const outcome = await outcomeOf(scheduler.run(() => side(scheduler)));
  print(`${exhibit.id}, ${isNaive ? "the naive way" : "Kiln"}, in the order of seed ${seed}:`);
  const lines = stepsOf(scheduler.trace ?? []);
  if (lines.length <= maxLines) for (const text of lines) print(text);
  else print(`  many steps: npm run -s museum -- ${exhibit.id} --seed ${seed}`);
  print(outcome.ok ? `  all is well after ${scheduler.steps} steps` : `  ${outcome.error.message}`);
  return outcome.ok;
};

/** Where all is well, more than this says less. */
const WELL_LINES = 60;

const showOne = async (exhibit: Exhibit, judgement: Judgement): Promise<void> => {
  const { seeds, naive, naiveFailures, kiln } = judgement;
  print(`${exhibit.id} ${exhibit.title}\n`);
  for (const text of exhibit.story) print(text);
  print();
  const seed = naive?.seed ?? 1;
  await playSeed(exhibit, { seed, isNaive: true });
  print();
  await playSeed(exhibit, { seed, isNaive: false, maxLines: WELL_LINES });
  print();
  print(`The naive way fails under ${naiveFailures} of ${seeds} seeds; above is the one with the fewest steps.`);
  print(kiln === null ? `Kiln passes all ${seeds}.` : `Kiln fails under seed ${kiln.seed}: ${kiln.failure?.message}`);
};

const cut = (text: string, width: number): string => (text.length <= width ? text.padEnd(width) : `${text.slice(0, width - 1)}…`);
const TITLE_WIDTH = 78;

const showRow = ({ exhibit, seeds, naive, naiveFailures, kiln }: Judgement): void => {
  const broken = naive === null ? "passes all" : `fails ${naiveFailures}; seed ${naive.seed} after ${naive.steps} steps`;
  print(
    `${exhibit.id.padEnd(5)} ${cut(exhibit.title, TITLE_WIDTH)}  naive ${broken}, Kiln ${kiln === null ? `passes ${seeds}` : `FAILS ${kiln.seed}`}`,
  );
  if (naive !== null) print(`      "${naive.failure?.message}"`);
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seeds: { type: "string" }, seed: { type: "string" }, naive: { type: "boolean" }, write: { type: "boolean" } },
});
const count = values.seeds === undefined ? {} : { count: number("seeds", values.seeds) };
const unknown = positionals.find((id) => !exhibits.has(id));
if (unknown !== undefined) complain(`${unknown} is no exhibit; there are ${[...exhibits.keys()].join(", ")}`);
const wanted = [...exhibits.values()].filter(({ id }) => positionals.length === 0 || positionals.includes(id));
const [only] = wanted;

if (values.write === true) {
  writeFileSync(PAGE, renderPage(exhibits.values()));
} else if (values.seed !== undefined) {
  if (only === undefined || positionals.length !== 1) complain("--seed is of one exhibit");
  else if (!(await playSeed(only, { seed: number("seed", values.seed), isNaive: values.naive === true }))) process.exitCode = 1;
} else {
  if (values.naive === true) complain("--naive comes with --seed");
  for (const exhibit of wanted) {
    const judgement = await judge(exhibit, count);
    if (positionals.length === 1) await showOne(exhibit, judgement);
    else showRow(judgement);
    for (const text of complaintsOf(judgement)) {
      process.stderr.write(`museum: ${text}\n`);
      process.exitCode = 1;
    }
  }
}
