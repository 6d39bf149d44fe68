import { glob } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { LONGEST } from "./longest.ts";
import { mayTouchSystem } from "./tidy/ranks.ts";
import { isTestPath, parseModule } from "./tidy/source.ts";

export type Stage = "parallel" | "guests" | "alone";

const PATTERNS = ["packages/*/src/**/*.test.ts", "scripts/**/*.test.ts", "test/**/*.test.ts", "guest/**/*.test.ts"];

/** All test files, relative to `root`, in the order in which they begin. */
export const findTests = async (root: string): Promise<string[]> => {
  const files: string[] = [];
  for await (const path of glob(PATTERNS, { cwd: root })) files.push(path);
  const rank = (path: string): number => (LONGEST.includes(path) ? LONGEST.indexOf(path) : LONGEST.length);
  return files.sort().sort((one, other) => rank(one) - rank(other));
};

/** Modules of Node that a pure test does without, and the door of std that leads to them. */
const IMPURE = /^(node:(fs|fs\/promises|child_process|net|http|sqlite|worker_threads|os)|@kiln\/std\/node|@kiln\/daemon)$/;

/** A pure test needs no file, process or socket, and is fast unless its name says otherwise: it runs in `npm run check`. */
export const isPure = (root: string, path: string): boolean =>
  stageOf(path) === "parallel" && !path.endsWith(".slow.test.ts") && !mayTouchSystem(path) && !reachesSystem(root, path);

/** Whether a test, or a fixture that it imports, uses a module of the system. What it tests does not by its rank. */
const reachesSystem = (root: string, path: string): boolean =>
  parseModule(path, readFileSync(join(root, path), "utf8")).imports.some(({ specifier }) => {
    if (!specifier.startsWith(".")) return IMPURE.test(specifier);
    const target = join(dirname(path), specifier);
    return mayTouchSystem(target) || (isTestPath(target) && reachesSystem(root, target));
  });

/**
 * Where a test runs. `x.guest.test.ts`, everything in test/e2e and the drivers' tests boot guests: as many files at once as
 * there are CPUs. `x.alone.test.ts` measures time or changes something of the whole host, so nothing runs beside it.
 */
export const stageOf = (path: string): Stage => {
  if (path.endsWith(".alone.test.ts")) return "alone";
  if (path.startsWith("test/e2e/") || path.endsWith(".guest.test.ts") || path.startsWith("packages/daemon/src/vmm/qemu/")) return "guests";
  return "parallel";
};
