/** Generated stacks by the thousand: what each run of a seed found, kept beside the program, and the section of the page that tells it. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { errorText } from "./failures.ts";
import { KINDS, kindsOf } from "./kinds.ts";
import { REASONS } from "./reasons.ts";
import { stacks, type Stack } from "./stack.ts";
import { compareStack } from "./subjects.ts";

interface Options {
  readonly signal: AbortSignal;
}

interface KindCount {
  readonly stacks: number;
  /** Differences without a reason in those stacks. */
  readonly unexplained: number;
}

/** What comparing `stacks` stacks of one seed came to. */
export interface Run {
  readonly seed: number;
  readonly stacks: number;
  /** Those that umoci does not unpack; Kiln refuses them too, or makes a clean file system of them. */
  readonly refused: number;
  readonly layers: number;
  readonly entries: number;
  /** Differences by the id of their reason. */
  readonly explained: Readonly<Record<string, number>>;
  readonly unexplained: number;
  readonly kinds: Readonly<Record<string, KindCount>>;
}

const RUNS = join(import.meta.dirname, "runs.json");
/** Two at once: while a tool of one runs, the other computes. */
const AT_ONCE = 2;

interface Found {
  readonly isRefused: boolean;
  readonly layers: number;
  readonly entries: number;
  readonly explained: ReadonlyMap<string, number>;
  readonly unexplained: readonly string[];
}

const compareOne = async (stack: Stack, options: Options): Promise<Found> => {
  const found = { isRefused: false, layers: 0, entries: 0, explained: new Map<string, number>(), unexplained: [] };
  try {
    const comparison = await compareStack(stack, options);
    if (comparison === null) return { ...found, isRefused: true };
    return {
      ...{ isRefused: false, layers: comparison.layers, entries: comparison.counts.name },
      explained: new Map([...comparison.explained].map(([id, differences]) => [id, differences.length])),
      unexplained: comparison.unexplained.map(
        ({ path, check, ours, theirs }) => `${JSON.stringify(path)}: ${check} is ${JSON.stringify(ours)} and not ${JSON.stringify(theirs)}`,
      ),
    };
  } catch (error) {
    if (options.signal.aborted) throw error;
    return { ...found, unexplained: [errorText(error)] };
  }
};

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

const addUp = (seed: number, found: readonly (readonly [Stack, Found])[]): Run => {
  const kinds = Object.keys(KINDS).map((kind): [string, KindCount] => {
    const having = found.filter(([stack, { isRefused }]) => !isRefused && kindsOf(stack).includes(kind));
    return [kind, { stacks: having.length, unexplained: sum(having.map(([, { unexplained }]) => unexplained.length)) }];
  });
  const all = found.map(([, one]) => one);
  return {
    seed,
    stacks: found.length,
    refused: all.filter(({ isRefused }) => isRefused).length,
    layers: sum(all.map(({ layers }) => layers)),
    entries: sum(all.map(({ entries }) => entries)),
    explained: Object.fromEntries(REASONS.map(({ id }) => [id, sum(all.map(({ explained }) => explained.get(id) ?? 0))])),
    unexplained: sum(all.map(({ unexplained }) => unexplained.length)),
    kinds: Object.fromEntries(kinds),
  };
};

/** Compares `count` stacks of `seed`. `tell` is called with each difference that has no reason. */
export const runStacks = async (
  plan: { readonly seed: number; readonly count: number; readonly tell: (line: string) => void },
  options: Options,
): Promise<Run> => {
  const queue = fc.sample(stacks, { seed: plan.seed, numRuns: plan.count }).entries();
  const found: [Stack, Found][] = [];
  const work = async (): Promise<void> => {
    for (const [index, stack] of queue) {
      const one = await compareOne(stack, options);
      found.push([stack, one]);
      for (const line of one.unexplained) plan.tell(`seed ${plan.seed}, stack ${index}: ${line}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return addUp(plan.seed, found);
};

export const readRuns = async (): Promise<Run[]> => JSON.parse(await readFile(RUNS, "utf8")) as Run[];

/** Keeps a run in place of an earlier one of its seed. */
export const keepRun = async (run: Run): Promise<Run[]> => {
  const runs = [...(await readRuns()).filter(({ seed }) => seed !== run.seed), run].sort((a, b) => a.seed - b.seed);
  await writeFile(RUNS, `${JSON.stringify(runs)}\n`);
  return runs;
};

const number = (value: number): string => value.toLocaleString("en-US");
const line = (cells: readonly (string | number)[]): string =>
  `| ${cells.map((cell) => (typeof cell === "number" ? number(cell) : cell)).join(" | ")} |`;

export const RUNS_HEAD = "## Stacks by the thousand";

/** The section of the page, from its heading on. */
export const renderRuns = (runs: readonly Run[]): string => {
  const ids = REASONS.map(({ id }) => id);
  const total = (of: (run: Run) => number): number => sum(runs.map(of));
  const row = (name: string, of: (read: (run: Run) => number) => number): string =>
    line([
      ...[name, of(({ stacks: count }) => count), of(({ refused }) => refused), of(({ layers }) => layers), of(({ entries }) => entries)],
      ...ids.map((id) => of(({ explained }) => explained[id] ?? 0)),
      of(({ unexplained }) => unexplained),
    ]);
  const kindRow = (kind: string): string =>
    line([kind, total(({ kinds }) => kinds[kind]?.stacks ?? 0), total(({ kinds }) => kinds[kind]?.unexplained ?? 0)]);
  return `${RUNS_HEAD}

\`npm run compare -- --stacks N --seed S\` compares N other stacks, the same for the same S, and writes this section again; e2fsck looks at each image.
Some layers are given to Kiln as overlayfs keeps them, and to umoci in OCI's words. What umoci refuses, Kiln refuses too or makes a clean file
system of.

${line(["seed", "stacks", "refused by umoci", "layers", "entries", ...ids, "unexplained"])}
| ---${" | --:".repeat(ids.length + 5)} |
${runs.map((run) => row(String(run.seed), (read) => read(run))).join("\n")}
${row("all", total)}

| stacks that have | compared | unexplained |
| --- | --: | --: |
${Object.keys(KINDS).map(kindRow).join("\n")}
`;
};
