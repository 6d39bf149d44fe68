/**
 * `npm test [-- PATTERN…]`: the static checks and every test; with patterns, only the test files whose path contains one.
 * Ends with the sums of all stages in node:test's words. Exits 0 only if all passed and there was something to run.
 */
import { availableParallelism, cpus } from "node:os";
import { join } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { ROOT, runChecks, STATIC_CHECKS, toolPath } from "./check.ts";
import { findTests, stageOf, type Stage } from "./tests.ts";

const FILE_TIMEOUT_MS = 10 * 60_000;
const CONCURRENCY: Readonly<Record<Stage, number>> = {
  parallel: availableParallelism(),
  guests: Math.min(2, availableParallelism()),
  alone: 1,
};
const COUNTS = ["tests", "suites", "passed", "cancelled", "skipped", "todo"] as const;

type Counts = Record<(typeof COUNTS)[number], number>;

interface Total extends Counts {
  readonly failures: string[];
  readonly files: { readonly path: string; readonly ms: number }[];
}

/** Of the whole machine since it was started: a file's daemons and guests are nobody's children. */
const busyMs = (): number => cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0);
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

const failed = ({ tests, passed, cancelled, skipped, todo }: Counts): number => tests - passed - cancelled - skipped - todo;

/** Runs the files of a stage; adds what it counts to `total`. */
const runStage = async (stage: Stage, files: readonly string[], total: Total): Promise<void> => {
  if (files.length === 0) return;
  console.log(`\n${stage}: ${files.length} files, ${CONCURRENCY[stage]} at once`);
  const [started, busy] = [performance.now(), busyMs()];
  const events = run({
    files: files.map((path) => join(ROOT, path)),
    cwd: ROOT,
    concurrency: CONCURRENCY[stage],
    timeout: FILE_TIMEOUT_MS,
  });
  events.on("test:fail", ({ name, file }) => total.failures.push(`${file ?? ""}: ${name}`));
  events.on("test:summary", ({ file, counts }) => {
    if (file === undefined) for (const count of COUNTS) total[count] += counts[count];
  });
  // a file as a whole is a test by the name of its path
  events.on("test:complete", ({ name, file, details }) => {
    if (name === file) total.files.push({ path: name, ms: details.duration_ms });
  });
  for await (const text of events.compose(new spec())) process.stdout.write(String(text));
  const took = performance.now() - started;
  console.log(`${stage}: ${files.length} files took ${seconds(took)}, in which the machine's CPUs worked for ${seconds(busyMs() - busy)}`);
};

const SLOWEST = 25;

const printSlowest = ({ files }: Total): void => {
  const slowest = files.toSorted((one, other) => other.ms - one.ms).slice(0, SLOWEST);
  console.log(`\nslowest files (scripts/longest.ts says which begin first)`);
  for (const { path, ms } of slowest) console.log(`${seconds(ms).padStart(9)}  ${path.replace(`${ROOT}/`, "")}`);
};

const printTotal = (total: Total, startedMs: number): void => {
  if (total.failures.length > 0) console.log(`\nfailed:\n${total.failures.map((line) => `  ${line.replace(`${ROOT}/`, "")}`).join("\n")}`);
  const { tests, suites, passed, cancelled, skipped, todo } = total;
  const sums = {
    tests,
    suites,
    pass: passed,
    fail: failed(total),
    cancelled,
    skipped,
    todo,
    duration_ms: Math.round(performance.now() - startedMs),
  };
  console.log(
    `\nall stages\n${Object.entries(sums)
      .map(([name, value]) => `# ${name} ${value}`)
      .join("\n")}`,
  );
};

const main = async (patterns: readonly string[]): Promise<boolean> => {
  const started = performance.now();
  const sound = patterns.length > 0 || (await runChecks(STATIC_CHECKS));
  const files = (await findTests(ROOT)).filter((path) => patterns.length === 0 || patterns.some((pattern) => path.includes(pattern)));
  const total: Total = { tests: 0, suites: 0, passed: 0, cancelled: 0, skipped: 0, todo: 0, failures: [], files: [] };
  for (const stage of ["parallel", "guests", "alone"] as const) {
    await runStage(
      stage,
      files.filter((path) => stageOf(path) === stage),
      total,
    );
  }
  if (total.files.length > 1) printSlowest(total);
  printTotal(total, started);
  if (!sound) console.log("the checks above failed");
  return sound && failed(total) === 0 && total.cancelled === 0 && total.failures.length === 0 && total.passed > 0;
};

process.env.PATH = toolPath();
// hundreds of processes load the same modules
process.env["NODE_COMPILE_CACHE"] = join(ROOT, ".cache/compile");
// Every test has a home of its own; the one of the person who runs the tests stays out of it.
delete process.env.KILN_HOME;
process.exitCode = (await main(process.argv.slice(2))) ? 0 : 1;
