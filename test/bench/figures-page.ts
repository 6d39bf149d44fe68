import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "@kiln/protocol/errors";
import { drawDistribution } from "./distribution-plot.ts";
import { ROOT } from "./home.ts";
import { type Figure, type Goal, reachedOf } from "./measure.ts";

/** A figure, and where and when it was measured. */
export interface KeptFigure {
  readonly figure: Figure;
  readonly machine: string;
  /** RFC 3339. */
  readonly date: string;
}

/** The plot of a figure that is drawn by its bench; others have their distribution. */
const OWN_PLOTS: Readonly<Record<string, string>> = { "rootfs.scaling": "rootfs-scaling.svg" };

export const PAGE = join(ROOT, "docs/figures.md");
const PLOTS = join(ROOT, "docs/figures");
const KEPT = join(PLOTS, "figures.json");

/** What was measured now in the place of what was measured before, and all else as it was; in the order of the benches, without those that are gone. */
export const mergeFigures = (before: readonly KeptFigure[], now: readonly KeptFigure[], names: readonly string[]): readonly KeptFigure[] =>
  names.flatMap((name) => [...now, ...before].find(({ figure }) => figure.name === name) ?? []);

const number = (value: number): string =>
  value >= 10_000 ? Math.round(value).toLocaleString("en") : value >= 100 ? `${Math.round(value)}` : `${Number(value.toPrecision(3))}`;

const measured = (value: number | null, unit: string): string => (value === null ? "-" : `${number(value)} ${unit}`);

const goalsOf = ({ goal, goals }: Figure): readonly Goal[] => goals ?? (goal === null ? [] : [goal]);

const goalCell = (figure: Figure): string => {
  const goals = goalsOf(figure).map(({ field, max }) => `${field}: ${number(reachedOf(figure, field) ?? Number.NaN)}, at most ${max}`);
  return goals.length === 0 ? "-" : `${figure.met === true ? "met" : "**missed**"}: ${goals.join("; ")}`;
};

const comparedCell = ({ ratios, peers, unit }: Figure): string => {
  const cells = Object.entries(ratios).map(([peer, ratio]) => `${peer} ${measured(peers[peer] ?? null, unit)}: ${ratio}`);
  return cells.length === 0 ? "-" : cells.join("<br>");
};

/** Markdown's cells end at a bar. */
const row = (cells: readonly (string | number)[]): string => `| ${cells.map((cell) => String(cell).replaceAll("|", "\\|")).join(" | ")} |`;

const overviewRow = ({ figure }: KeptFigure): string => {
  const { name, n, p50, p95, p99, unit, failures } = figure;
  const link = `[${name}](#${name.replaceAll(".", "")})`;
  return row([link, n, measured(p50, unit), measured(p95, unit), measured(p99, unit), failures, comparedCell(figure), goalCell(figure)]);
};

export const plotOf = ({ name, spread }: Figure): string | null => OWN_PLOTS[name] ?? (spread.length === 0 ? null : `figures/${name}.svg`);

const section = ({ figure, machine, date }: KeptFigure): string[] => {
  const { name, n, p50, p99, unit, details, skipped } = figure;
  const plot = plotOf(figure);
  const alt = `${name}: p50 ${measured(p50, unit)}, p99 ${measured(p99, unit)}`;
  return [
    `## ${name}`,
    "",
    `    npm run -s bench -- ${name} --write`,
    "",
    `${n} runs, ${date.slice(0, 10)}, on ${machine}.`,
    "",
    ...(plot === null ? [] : [`![${alt}](${plot})`, ""]),
    "| | |",
    "|---|--:|",
    ...Object.entries(details).map(([what, value]) => row([what, typeof value === "number" ? number(value) : value])),
    "",
    ...skipped.flatMap((peer) => [`Not measured: ${peer}.`, ""]),
  ];
};

/** The page, a pure function of what is kept. */
export const renderPage = (kept: readonly KeptFigure[]): string => {
  const missed = kept.filter(({ figure }) => figure.met === false).length;
  const failures = kept.reduce((sum, { figure }) => sum + figure.failures, 0);
  const machines = [...new Set(kept.map(({ machine }) => machine))];
  return [
    "# Figures",
    "",
    "Each beside what it is compared to, measured in the same run. A ratio is Kiln's p50 over the other's: below 1 Kiln is faster. A goal is in the bench, not",
    "on this page, so that it is not written to fit. All of it is written by the command; nothing is copied by hand, and no other page has figures of its own.",
    "",
    "    npm run bench                          # measures all of it, and writes this page",
    "    npm run -s bench -- load --write       # measures some of it, and writes their rows again",
    "    npm run -s bench -- --check            # exits with 1 where a goal is missed or something failed",
    "",
    `Figures: ${kept.length}; with a goal missed: ${missed}; failures: ${failures}. ${machines.length === 1 ? `All on ${machines[0]}.` : "What each ran on is below it."}`,
    "",
    "| figure | n | p50 | p95 | p99 | failures | compared to, and the ratio | goal |",
    "|---|--:|--:|--:|--:|--:|---|---|",
    ...kept.map(overviewRow),
    "",
    "The plots: the line is the share of the runs that took at most so long. Marked are p50 and p99; dashed, the p50 of what it is compared to.",
    "",
    ...kept.flatMap(section),
  ]
    .join("\n")
    .trimEnd()
    .concat("\n");
};

const readKept = async (): Promise<readonly KeptFigure[]> => {
  try {
    return JSON.parse(await readFile(KEPT, "utf8")) as readonly KeptFigure[];
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
};

const drawPlots = async (kept: readonly KeptFigure[]): Promise<void> => {
  for (const { figure } of kept) {
    const { name, unit, spread, p50, p99, peers } = figure;
    const file = join(PLOTS, `${name}.svg`);
    if (plotOf(figure) === `figures/${name}.svg` && p50 !== null && p99 !== null) {
      await writeFile(file, drawDistribution({ name, unit, spread, p50, p99, peers }));
    } else {
      await rm(file, { force: true });
    }
  }
};

/** Writes the rows of what was measured now, and leaves the others as they are. `names`: all that there are, in order. */
export const writeFiguresPage = async (now: readonly KeptFigure[], names: readonly string[]): Promise<void> => {
  await mkdir(PLOTS, { recursive: true });
  const kept = mergeFigures(await readKept(), now, names);
  await drawPlots(now);
  await writeFile(KEPT, `${JSON.stringify(kept, null, 1)}\n`);
  await writeFile(PAGE, renderPage(kept));
};
