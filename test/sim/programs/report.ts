import type { BatchResult } from "./batch.ts";

type Figures = Omit<BatchResult, "findings"> & { readonly seconds: number; readonly first: number };

const count = (value: number): string => value.toLocaleString("en-US");

/** The page with the figures of a run in which nothing was found. */
export const withFigures = (page: string, figures: Figures): string => {
  const parts = /^([^]*<!-- figures -->\n)[^]*(\n<!-- end of figures -->[^]*)$/.exec(page);
  if (parts === null) throw new Error("the page has no place for figures");
  const { schedules, steps, crashes, commands, seconds, first } = figures;
  const rows: readonly (readonly [string, string])[] = [
    ["schedules", `${count(schedules)}, of the seeds ${first} to ${first + schedules - 1}`],
    ["commands and fates", count(commands)],
    ["steps", count(steps)],
    ["crashes and power failures of the daemon", count(crashes)],
    ["time on two cores", `${Math.round(seconds)} s, ${count(Math.round(schedules / seconds))} schedules a second`],
    ["failures", "none"],
  ];
  const table = ["| | |", "|---|---|", ...rows.map(([name, value]) => `| ${name} | ${value} |`)];
  return `${parts[1]}${table.join("\n")}${parts[2]}`;
};
