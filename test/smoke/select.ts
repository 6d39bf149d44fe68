/** What the words behind `npm run smoke --` mean. */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { JOBS_MAX } from "./limits.ts";
import type { Scenario } from "./scenario.ts";

export interface Selection {
  readonly what: "run" | "list" | "compare";
  readonly scenarios: readonly Scenario[];
  readonly jobs: number;
  readonly json: boolean;
  /** With the commands of scenarios that pass as well. */
  readonly verbose: boolean;
  /** Of a comparison: serial and parallel, and then the other way round. */
  readonly rounds: number;
  /** The list goes into its page. */
  readonly write: boolean;
}

/** What was asked for is not there; the exit code is 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

const OPTIONS = {
  jobs: { type: "string", short: "j" },
  rounds: { type: "string" },
  scenario: { type: "string", multiple: true },
  list: { type: "boolean" },
  compare: { type: "boolean" },
  json: { type: "boolean" },
  verbose: { type: "boolean", short: "v" },
  write: { type: "boolean" },
} as const;

const USAGE = "npm run smoke -- [--jobs N] [--scenario NAME]… [--list [--write]] [--compare [--rounds N]] [--json] [--verbose]";

/** Throws UsageError. */
export const parseSelection = (argv: readonly string[], scenarios: readonly Scenario[]): Selection => {
  const values = parseWords(argv);
  const jobs = parseCount("jobs", values.jobs, { fallback: availableParallelism(), max: JOBS_MAX });
  const rounds = parseCount("rounds", values.rounds, { fallback: 1, max: 10 });
  const chosen = choose(values.scenario ?? [], scenarios);
  const what = values.list === true ? "list" : values.compare === true ? "compare" : "run";
  const flags = { json: values.json ?? false, verbose: values.verbose ?? false, write: values.write ?? false };
  return { what, scenarios: chosen, jobs, rounds, ...flags };
};

const parseWords = (argv: readonly string[]) => {
  try {
    return parseArgs({ args: [...argv], options: OPTIONS, strict: true }).values;
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message : String(error)}\nUsage: ${USAGE}`, { cause: error });
  }
};

const parseCount = (name: string, text: string | undefined, { fallback, max }: { fallback: number; max: number }): number => {
  if (text === undefined) return fallback;
  if (/^[1-9]\d{0,3}$/.test(text) && Number(text) <= max) return Number(text);
  throw new UsageError(`--${name} ${text}: it is a number from 1 to ${max}`);
};

const choose = (names: readonly string[], scenarios: readonly Scenario[]): readonly Scenario[] => {
  if (names.length === 0) return scenarios;
  const unknown = names.filter((wanted) => !scenarios.some(({ name }) => name === wanted));
  if (unknown.length === 0) return scenarios.filter(({ name }) => names.includes(name));
  const list = scenarios.map(({ name }) => `  ${name}`).join("\n");
  throw new UsageError(`there is no scenario ${unknown.join(", ")}; there are:\n${list}`);
};
