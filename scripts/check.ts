/**
 * `npm run check`: types, lint, format, tidy and the pure tests, in seconds. Prints a line for each and, for one that
 * fails, what it said. Exits 1 if any failed.
 */
import { execFile } from "node:child_process";
import { availableParallelism } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { tidy } from "./tidy.ts";
import { findTests, isPure } from "./tests.ts";

export const ROOT = resolve(import.meta.dirname, "..");

interface Outcome {
  readonly ok: boolean;
  readonly output: string;
}

interface Check {
  readonly name: string;
  readonly run: () => Promise<Outcome>;
}

/** The pinned Node and the workspace's tools come first, and the system's administration tools are found by any user. */
export const toolPath = (): string =>
  [dirname(process.execPath), join(ROOT, "node_modules/.bin"), process.env.PATH ?? "", "/usr/sbin", "/sbin"].join(delimiter);

const runCommand = (command: string, args: readonly string[]): Promise<Outcome> =>
  new Promise((answer) => {
    const options = {
      cwd: ROOT,
      env: { ...process.env, PATH: toolPath() },
      maxBuffer: 64 * 1024 * 1024,
    };
    execFile(command, args, options, (error, stdout, stderr) => {
      answer({ ok: error === null, output: `${stdout}${stderr}${stdout === "" && stderr === "" && error !== null ? error.message : ""}` });
    });
  });

const runTidy = async (): Promise<Outcome> => {
  const findings = tidy(ROOT);
  return {
    ok: findings.length === 0,
    output: findings.map(({ path, line, rule, message }) => `${path}:${line}: ${rule}: ${message}\n`).join(""),
  };
};

export const STATIC_CHECKS: readonly Check[] = [
  {
    name: "types",
    run: () => runCommand("tsc", ["-p", ".", "--pretty", "false", "--incremental", "--tsBuildInfoFile", ".cache/check/tsbuildinfo"]),
  },
  { name: "lint", run: () => runCommand("oxlint", []) },
  { name: "format", run: () => runCommand("oxfmt", ["--check"]) },
  { name: "tidy", run: runTidy },
];

const PURE_TESTS: Check = {
  name: "pure tests",
  run: async () => {
    const files = (await findTests(ROOT)).filter((path) => isPure(ROOT, path));
    return runCommand(process.execPath, ["--test", "--test-reporter=dot", "--test-concurrency=4", ...files]);
  },
};

/** Runs them, two at a time; true if all are well. */
export const runChecks = async (checks: readonly Check[]): Promise<boolean> => {
  const queue = [...checks];
  let ok = true;
  const work = async (): Promise<void> => {
    for (let check = queue.shift(); check !== undefined; check = queue.shift()) {
      const started = performance.now();
      const outcome = await check.run();
      console.log(`${outcome.ok ? "ok  " : "FAIL"} ${check.name} (${Math.round(performance.now() - started)} ms)`);
      if (!outcome.ok) console.log(stripVTControlCharacters(outcome.output));
      ok &&= outcome.ok;
    }
  };
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, work));
  return ok;
};

if (import.meta.main) process.exitCode = (await runChecks([PURE_TESTS, ...STATIC_CHECKS])) ? 0 : 1;
