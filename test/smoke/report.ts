/** What people and programs see of a run. */
import type { Ended } from "./runner.ts";
import type { Scenario } from "./scenario.ts";

const WORDS = { passed: "ok  ", failed: "FAIL", skipped: "skip" } as const;

/** One scenario, whole. */
export const renderEnded = ({ scenario, state, ms, report, transcript }: Ended, { verbose }: { readonly verbose: boolean }): string => {
  const head = `${WORDS[state]} ${scenario.name} (${scenario.kind}, ${Math.round(ms)} ms)`;
  if (state === "skipped") return `${head}: ${report}\n`;
  const body = state === "failed" ? report : verbose ? transcript : "";
  return body === "" ? `${head}\n` : `${head}\n${indent(printable(body))}\n`;
};

export const endedJson = ({ scenario, state, ms, report }: Ended) => ({
  ...{ name: scenario.name, kind: scenario.kind, state, ms: Math.round(ms) },
  report: report === "" ? null : report,
});

export interface Totals {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly wallMs: number;
  /** The scenarios' times, added up. */
  readonly sumMs: number;
  readonly jobs: number;
  /** What is left at the end, in words. */
  readonly left: readonly string[];
  readonly machine: Machine;
}

export interface Machine {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly driver: string;
  readonly node: string;
}

export const sumUp = (ended: readonly Ended[], rest: Pick<Totals, "wallMs" | "jobs" | "left" | "machine">): Totals => {
  const count = (state: Ended["state"]): number => ended.filter((one) => one.state === state).length;
  const sumMs = Math.round(ended.reduce((sum, { ms }) => sum + ms, 0));
  return { passed: count("passed"), failed: count("failed"), skipped: count("skipped"), sumMs, ...rest };
};

export const renderTotals = ({ passed, failed, skipped, wallMs, sumMs, jobs, left, machine }: Totals): string => {
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
  const gib = (machine.memoryBytes / 2 ** 30).toFixed(0);
  return [
    ...left.map((line) => `FAIL ${printable(line)}`),
    `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`,
    `wall ${seconds(wallMs)}, the scenarios' times together ${seconds(sumMs)}, ${jobs} at once`,
    `on ${machine.cpus} CPUs, ${gib} GiB, ${machine.driver}, node ${machine.node}`,
    "",
  ].join("\n");
};

/** The scenarios as a table of Markdown. */
export const renderList = (scenarios: readonly Scenario[]): string => {
  const rows = scenarios.map(({ name, kind, shows }) => [name, kind, shows.replaceAll("|", "\\|")] as const);
  return ["| scenario | | what it shows |", "|---|---|---|", ...rows.map((cells) => `| ${cells.join(" | ")} |`), ""].join("\n");
};

/** What a guest writes may not steer a terminal. */
export const printable = (text: string): string =>
  // eslint-disable-next-line no-control-regex
  text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);

const indent = (text: string): string =>
  text
    .split("\n")
    .map((line) => `    ${line}`)
    .join("\n");
