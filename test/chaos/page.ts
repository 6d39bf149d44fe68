import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ROOT } from "../fixtures/cache.ts";
import type { ChaosDriver } from "./plan.ts";
import type { ChaosSummary } from "./runs.ts";

const PAGE = join(ROOT, "docs/chaos.md");

/** Of all commands, those that did what they were to do. */
const commandsOf = ({ outcomes }: Pick<ChaosSummary, "outcomes">): { readonly all: number; readonly done: number } => {
  const entries = Object.entries(outcomes);
  const sum = (of: readonly (readonly [string, number])[]): number => of.reduce((total, [, count]) => total + count, 0);
  return { all: sum(entries), done: sum(entries.filter(([name]) => name.endsWith(" done"))) };
};

const codesOf = ({ outcomes }: Pick<ChaosSummary, "outcomes">): readonly (readonly [string, number])[] => {
  const codes = new Map<string, number>();
  for (const [name, count] of Object.entries(outcomes)) {
    const code = name.slice(name.lastIndexOf(" ") + 1);
    if (code !== "done") codes.set(code, (codes.get(code) ?? 0) + count);
  }
  return [...codes].toSorted(([, a], [, b]) => b - a);
};

/** For a terminal. */
export const renderResults = (summary: ChaosSummary): string => {
  const { all, done } = commandsOf(summary);
  return [
    `${summary.ran} seeds of ${summary.ops} commands by ${summary.clients} clients on ${summary.driver}, in ${summary.seconds} s`,
    `commands   ${all}, of which ${done} did what they were to do`,
    `errors     ${codesOf(summary)
      .map(([code, count]) => `${code} ${count}`)
      .join(", ")}`,
    `faults     ${Object.entries(summary.faults)
      .map(([kind, count]) => `${kind} ${count}`)
      .join(", ")}`,
    `nonces     ${summary.nonces.all}, of which ${summary.nonces.acknowledged} were acknowledged`,
    `failed     ${summary.failed.length === 0 ? "none" : summary.failed.map(({ seed }) => seed).join(", ")}`,
    "",
  ].join("\n");
};

const beginOf = (driver: ChaosDriver): string => `<!-- run of ${driver} -->`;
const endOf = (driver: ChaosDriver): string => `<!-- end of ${driver} -->`;

/** The section of the page that a run of its driver writes. */
export const renderReport = (summary: ChaosSummary): string => {
  const { all, done } = commandsOf(summary);
  const row = (name: string, value: string | number): string => `| ${name} | ${value} |`;
  return [
    "| | |",
    "|---|---|",
    row("seeds", `${summary.first} to ${summary.first + summary.ran - 1}`),
    row("commands", `${all}, by ${summary.clients} clients, ${summary.ops} for each seed`),
    row("that did what they were to do", done),
    row("typed failures", all - done),
    row(
      "faults",
      Object.entries(summary.faults)
        .map(([kind, count]) => `${kind} ${count}`)
        .join(", "),
    ),
    row("nonces", summary.nonces.all),
    row("of which acknowledged", summary.nonces.acknowledged),
    row("seeds with a complaint", summary.failed.length),
    row("time", `${summary.seconds} s`),
  ].join("\n");
};

/** Writes its driver's section of docs/chaos.md. */
export const writeReport = async (summary: ChaosSummary): Promise<void> => {
  const page = await readFile(PAGE, "utf8");
  const [begin, end] = [page.indexOf(beginOf(summary.driver)), page.indexOf(endOf(summary.driver))];
  if (begin === -1 || end < begin) throw new Error(`${PAGE} has no place for ${summary.driver}`);
  const before = page.slice(0, begin + beginOf(summary.driver).length);
  await writeFile(PAGE, `${before}\n\n${renderReport(summary)}\n\n${page.slice(end)}`);
};
