/** `npm run crash-matrix [-- OPERATION [POINT]]`: runs it, whole or what fits the two patterns; a whole and green one is written down. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { CellResult } from "./cells.ts";
import { complaintsAboutAllowances, complaintsAboutPlan, listPoints, planCells, planOperations, runCells } from "./matrix.ts";
import { OPERATIONS } from "./operations.ts";
import { renderPage } from "./page.ts";
import { createStage } from "./stage.ts";

const PAGE = join(import.meta.dirname, "../../docs/crash-matrix.md");
/** To look at. */
const RED_PAGE = join(import.meta.dirname, "../../.cache/crash-matrix.md");
const say = (text: string): void => void process.stderr.write(`crash-matrix: ${text}\n`);

const report = ({ cell, outcome, complaints }: CellResult): void => {
  if (complaints.length === 0) return;
  say(`${cell.operation.name}, ${cell.action} at ${cell.point}:${cell.nth}: ${outcome}`);
  for (const complaint of complaints) say(`    ${complaint}`);
};

const main = async (signal: AbortSignal): Promise<void> => {
  const begun = performance.now();
  const [operationPattern, pointPattern] = process.argv.slice(2).map((text) => new RegExp(text));
  await using stage = await createStage();
  const operations = OPERATIONS.filter(({ name }) => operationPattern?.test(name) ?? true);
  const [points, planned] = [await listPoints(stage), await planOperations(stage, { operations, signal })];
  const isWhole = operationPattern === undefined && pointPattern === undefined;
  const complaints = isWhole ? [...complaintsAboutPlan(points, planned)] : [];
  for (const complaint of complaints) say(complaint);
  const cells = planCells(planned).filter(({ cell }) => pointPattern?.test(cell.point) ?? true);
  say(`${cells.length} cells of ${operations.length} operations and ${points.length} failpoints`);
  const results = await runCells(stage, cells, { onResult: (result) => (signal.aborted ? undefined : report(result)), signal });
  const allowances = isWhole ? complaintsAboutAllowances(results) : [];
  for (const complaint of allowances) say(complaint);
  const bad = results.filter(({ complaints }) => complaints.length > 0).length;
  say(`${results.length - bad} of ${results.length} are green, in ${Math.round((performance.now() - begun) / 1000)} s`);
  if (bad + complaints.length + allowances.length > 0) process.exitCode = 1;
  if (isWhole) await writeFile(process.exitCode === 1 ? RED_PAGE : PAGE, renderPage(points, results));
};

const interrupt = new AbortController();
// the daemons do not get a terminal's signals: the cells under way end first, then the stage with all that is left in it
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => interrupt.abort(new Error(`${name}: nothing was written`)));
try {
  await main(interrupt.signal);
} catch (error) {
  if (error !== interrupt.signal.reason) throw error;
  say(String(error));
  process.exitCode = 130;
}
