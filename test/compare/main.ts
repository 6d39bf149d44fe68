/** `npm run compare`: builds the images, compares them, writes the page. Exits 1 if a difference has no reason. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runTool } from "@kiln/std/node";
import { CHECKS } from "./differences.ts";
import { IMAGES, compareGenerated, compareNamed, type Row } from "./subjects.ts";
import { renderPage } from "./table.ts";

const PAGE = join(import.meta.dirname, "../../docs/image-comparison.md");
const SHOWN = 20;

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

const rows: Row[] = [];
for (const image of Object.keys(IMAGES)) rows.push(await compareNamed(image, { signal }));
rows.push(await compareGenerated({ signal }));
const unexplained = rows.map(report).reduce((total, count) => total + count, 0);
const { stdout } = await runTool("umoci", ["--version"], { signal });
const umoci = /version (\d+\.\d+\.\d+)/.exec(new TextDecoder().decode(stdout))?.[1] ?? "of unknown version";
await writeFile(PAGE, renderPage(rows, { umoci: `umoci ${umoci}` }));
if (unexplained > 0) process.exitCode = 1;
