/** The page of the fuzz targets. */
import type { CorpusFile } from "./engine/corpus.ts";
import type { Summary } from "./engine/messages.ts";
import type { FuzzTarget } from "./engine/target.ts";
import { FIXED } from "./findings.ts";

export interface Row {
  readonly name: string;
  readonly target: FuzzTarget;
  readonly summary: Summary;
  readonly open: number;
  readonly corpus: readonly CorpusFile[];
}

const number = (value: number): string => Math.round(value).toLocaleString("en-US");
const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
const table = (head: readonly string[], marks: readonly string[], rows: readonly (readonly string[])[]): string =>
  [line(head), line(marks), ...rows.map(line)].join("\n");

const fixedOf = (name: string): number => FIXED.filter(({ target }) => target === name).length;

const runRow = ({ name, summary, open, corpus }: Row): string[] => [
  name,
  `${corpus.length} (${(corpus.reduce((sum, { storedBytes }) => sum + storedBytes, 0) / 1024).toFixed(1)} KiB)`,
  number(summary.executions),
  number(summary.executions / Math.max(summary.cpuSeconds, 0.001)),
  number(summary.cpuSeconds),
  number(summary.seconds),
  `${Math.round((100 * summary.accepted) / Math.max(summary.executions, 1))} %`,
  number(summary.features),
  String(open),
  String(fixedOf(name)),
];

export const renderPage = (rows: readonly Row[], { seed }: { readonly seed: number }): string => `# Fuzzing

Written by \`npm run -s fuzz -- --report --seconds N\`; do not edit it. What is hostile about an image, and where each case has its test, is in
[hostile-input.md](hostile-input.md).

Each target is one parser of what comes with an image. A process of its own is fed with changed inputs of the target's committed corpus
(\`test/fuzz/corpus\`), and a watchdog beside it looks at its CPU time and memory: hanging, growing beyond 768 MiB, crashing, being slower than
2 s and throwing anything but the format's own error are findings. An input that takes a branch which none before it has taken joins the
corpus of the run. Everything follows from the seed and the corpus, but for where the clock ends a run. \`npm test\` replays every corpus and
makes 150 inputs more for each target, always the same ones.

## The last long run

On one core, which other work was on as well; \`--seed ${seed}\`.

${table(
  [
    "target",
    "corpus",
    "executions",
    "a second of CPU",
    "seconds of CPU",
    "seconds",
    "accepted",
    "features",
    "findings open",
    "findings fixed",
  ],
  ["---", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:"],
  rows.map(runRow),
)}

A feature is a branch of the code taken, in one of eight classes of how often. Accepted are inputs that are read to their end without an error.

## What holds of every input

Besides ending with success or the format's own error:

${table(
  ["target", "what is fuzzed", "what holds"],
  ["---", "---", "---"],
  rows.map(({ name, target }) => [name, target.about, target.holds]),
)}

## What was found and is fixed

${
  FIXED.length === 0
    ? "Nothing yet."
    : table(
        ["target", "input", "what it was"],
        ["---", "---", "---"],
        FIXED.map(({ target, input, what }) => [target, `\`${input}\``, what]),
      )
}

## Why there is an engine of its own

\`@jazzer.js/core\` brings a prebuilt addon that needs glibc 2.38, and Debian 12 has 2.36. V8's own precise coverage makes the tar parser fifteen
times slower (6,500 against 96,000 executions a second) and is read in a third of a millisecond. The counters that
[coverage.ts](../test/fuzz/engine/coverage.ts) adds to the sources while they are loaded cost a factor of 2.6 and are read in microseconds; the rest
of the engine is some six hundred lines.
`;
