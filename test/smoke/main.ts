/** `npm run smoke -- …`: scenarios through the command line on real guests. Exit code 1 where one fails or leaves something behind, 2 for a name that is none. */
import { readFile, writeFile } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { compare } from "./compare.ts";
import { replaceTable } from "./page.ts";
import { endedJson, type Machine, renderEnded, renderList, renderTotals, sumUp } from "./report.ts";
import { type Ended, runScenarios } from "./runner.ts";
import { SCENARIOS } from "./scenarios.ts";
import { parseSelection, type Selection, UsageError } from "./select.ts";
import { Stage } from "./stage.ts";

const PAGE = join(import.meta.dirname, "../../docs/smoke.md");

const out = (text: string): void => void process.stdout.write(text);
const say = (text: string): void => void process.stderr.write(`smoke: ${text}\n`);

const list = async ({ scenarios, json, write }: Selection): Promise<void> => {
  if (write) await writeFile(PAGE, replaceTable(await readFile(PAGE, "utf8"), renderList(scenarios)));
  else if (json) out(`${JSON.stringify(scenarios.map(({ name, kind, shows }) => ({ name, kind, shows })))}\n`);
  else out(renderList(scenarios));
};

const show = (ended: Ended, { json, verbose }: Selection): void => {
  out(json ? `${JSON.stringify(endedJson(ended))}\n` : renderEnded(ended, { verbose }));
};

const machine = (driver: string): Machine => ({
  ...{ cpus: availableParallelism(), memoryBytes: totalmem(), driver, node: process.version },
});

const runAll = async (selection: Selection, signal: AbortSignal): Promise<boolean> => {
  const { scenarios, jobs, json } = selection;
  say("fetching and building what VMs start from");
  const stage = await Stage.create({ signal });
  const began = performance.now();
  const left: string[] = [];
  let ended: readonly Ended[] = [];
  try {
    ended = await runScenarios(scenarios, { host: stage, jobs, signal, onEnd: (one) => show(one, selection) });
  } finally {
    left.push(...(await stage.close()));
  }
  const wallMs = Math.round(performance.now() - began);
  const totals = sumUp(ended, { wallMs, jobs, left, machine: machine(stage.driver) });
  out(json ? `${JSON.stringify(totals)}\n` : renderTotals(totals));
  return totals.failed === 0 && left.length === 0 && !signal.aborted;
};

const main = async (signal: AbortSignal): Promise<boolean> => {
  const selection = parseSelection(process.argv.slice(2), SCENARIOS);
  switch (selection.what) {
    case "list":
      await list(selection);
      return true;
    case "compare":
      return compare(selection, { out, say, show: (ended) => show(ended, selection), signal });
    case "run":
      return runAll(selection, signal);
  }
};

const interrupt = new AbortController();
// daemons do not get a terminal's signals: scenarios under way end first, then the homes with all that is in them
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => interrupt.abort(new Error(name)));
try {
  if (!(await main(interrupt.signal))) process.exitCode = interrupt.signal.aborted ? 130 : 1;
} catch (error) {
  if (!(error instanceof UsageError) && error !== interrupt.signal.reason) throw error;
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = error instanceof UsageError ? 2 : 130;
}
