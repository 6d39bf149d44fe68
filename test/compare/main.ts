/**
 * `npm run compare`: builds the images, compares them, writes the page. With `--stacks N [--seed S]` N generated stacks of layers instead, and
 * the page's section on them. Exits 1 if a difference has no reason.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { runTool } from "@kiln/std/node";
import { CHECKS } from "./differences.ts";
import { RUNS_HEAD, keepRun, readRuns, renderRuns, runStacks } from "./runs.ts";
import { IMAGES, compareGenerated, compareNamed, type Row } from "./subjects.ts";
import { renderPage } from "./table.ts";

const PAGE = join(import.meta.dirname, "../../docs/image-comparison.md");
const SHOWN = 20;
/** More stacks are of the next seeds: each is a row of the page. */
const STACKS_OF_A_SEED = 250;

const interrupt = new AbortController();
process.once("SIGINT", () => interrupt.abort());
const { signal } = interrupt;

const report = (row: Row): number => {
  const entries = row.comparisons.reduce((total, { counts }) => total + counts.name, 0);
  const unexplained = row.comparisons.flatMap((comparison) => comparison.unexplained);
  process.stderr.write(`compare: ${row.image}: ${entries} entries by ${CHECKS.length + 1} checks, ${unexplained.length} unexplained\n`);
  for (const { path, check, ours, theirs } of unexplained.slice(0, SHOWN))
    process.stderr.write(`  ${JSON.stringify(path)}: ${check} is ${JSON.stringify(ours)} and not ${JSON.stringify(theirs)}\n`);
  return unexplained.length;
};

const umociVersion = async (): Promise<string> => {
  const { stdout } = await runTool("umoci", ["--version"], { signal });
  return /version (\d+\.\d+\.\d+)/.exec(new TextDecoder().decode(stdout))?.[1] ?? "of unknown version";
};

const compareImages = async (): Promise<number> => {
  const rows: Row[] = [];
  for (const image of Object.keys(IMAGES)) rows.push(await compareNamed(image, { signal }));
  rows.push(await compareGenerated({ signal }));
  const unexplained = rows.map(report).reduce((total, count) => total + count, 0);
  await writeFile(PAGE, renderPage(rows, { umoci: `umoci ${await umociVersion()}`, runs: await readRuns() }));
  return unexplained;
};

/** The section of the page is up to date after each seed, so that what was found stays if the rest is not waited for. */
const compareStacks = async (count: number, firstSeed: number): Promise<number> => {
  const tell = (line: string): void => void process.stderr.write(`compare: ${line}\n`);
  let unexplained = 0;
  for (let done = 0, seed = firstSeed; done < count; done += STACKS_OF_A_SEED, seed += 1) {
    const run = await runStacks({ seed, count: Math.min(STACKS_OF_A_SEED, count - done), tell }, { signal });
    tell(`seed ${seed}: ${run.stacks} stacks, ${run.refused} refused by umoci, ${run.entries} entries, ${run.unexplained} unexplained`);
    const page = await readFile(PAGE, "utf8");
    await writeFile(PAGE, page.slice(0, page.indexOf(RUNS_HEAD)) + renderRuns(await keepRun(run)));
    unexplained += run.unexplained;
  }
  return unexplained;
};

const { values } = parseArgs({ options: { stacks: { type: "string" }, seed: { type: "string", default: "1" } } });
const unexplained = values.stacks === undefined ? await compareImages() : await compareStacks(Number(values.stacks), Number(values.seed));
if (unexplained > 0) process.exitCode = 1;
