/** The page of the matrix: failpoints by operations. */
import { type CellResult, FINISHED } from "./cells.ts";
import { OPERATIONS, UNMET } from "./operations.ts";
import { ERROR_LETTERS, FINISHED_LETTER } from "./outcomes.ts";

const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;

export const PAGE_HEAD = ["failpoint", ...OPERATIONS.map(({ name }) => name)];

const letterOf = (outcome: string): string => (outcome === FINISHED ? FINISHED_LETTER : (ERROR_LETTERS[outcome]?.letter ?? "?"));

const cellOf = (results: readonly CellResult[]): string => {
  const of = (action: string): string =>
    results
      .filter(({ cell }) => cell.action === action)
      .map((one) => letterOf(one.outcome))
      .join("");
  return of("error") === "" ? of("kill") : `${of("kill")}/${of("error")}`;
};

const rowOf = (point: string, results: readonly CellResult[]): string => {
  const here = results.filter(({ cell }) => cell.point === point);
  return line([`\`${point}\``, ...OPERATIONS.map((operation) => cellOf(here.filter(({ cell }) => cell.operation === operation)))]);
};

const legend = (): string =>
  [
    `- ${FINISHED_LETTER}: it succeeded.`,
    ...Object.entries(ERROR_LETTERS).map(([code, { letter, text }]) => `- ${letter}: ${code}. ${text}`),
  ].join("\n");

/** The page of a whole and green matrix. */
export const renderPage = (points: readonly string[], results: readonly CellResult[]): string => {
  const count = (action: string): number => results.filter(({ cell }) => cell.action === action).length;
  const own = OPERATIONS.flatMap(({ name, only }) => (only === undefined ? [] : [`- ${name}: \`${only.points.source}\`; ${only.reason}.`]));
  const failing = OPERATIONS.flatMap(({ name, failsAt }) => (failsAt === undefined ? [] : [`- ${name}: at \`${failsAt}\`.`]));
  return `# The crash matrix

${points.length} failpoints by ${OPERATIONS.length} operations: ${count("kill")} kills of the daemon and ${count("error")} failures of a step, and nothing was lost, doubled or left behind.
\`npm run crash-matrix\` writes this page again; the tests run a part of it.

There is a failpoint before and after each step of a saga and each write of a record, and in each publishing of a file; \`kiln doctor --failpoints\` lists
them. Which operation meets which is found by tracing it. Each cell is the command, run by the command line against a daemon of its own with the fake
driver, in a home of its own, whose daemon ends there with SIGKILL; the command goes on with the next daemon. Then the records are compared with
what the operating system has: no process and no socket but the daemon's, nothing in staging, \`kiln df\` without orphans and equal to du, no operation and
no saga left, memory, CPUs and disks reserved for the VMs that are there and for no others, each VM in a final state, each blob, rootfs, kernel and
pre-boot snapshot of a record whole. The command run again has to succeed, and the same has to hold afterwards, and once the daemon has been stopped.

## How the command ended

A letter for each kill; a failpoint that is met several times is killed at as often as something was written in between. Behind a slash: how it ended where
the daemon did not die but the step failed, and the saga was taken back.

${legend()}

${line(PAGE_HEAD)}
${line(PAGE_HEAD.map((_, index) => (index === 0 ? "---" : ":-:")))}
${points.map((point) => rowOf(point, results)).join("\n")}

A guest of the fake driver dies with its daemon. With QEMU it runs on and is taken over: \`test/e2e/crash.test.ts\` kills the daemon at the main points
under a guest.

## What is told apart

These operations fail by themselves, so that they are taken back, and the daemon dies on that way too:

${failing.join("\n")}

These are shown at the failpoints that are their own:

${own.join("\n")}

No command meets these:

${Object.entries(UNMET)
  .map(([point, reason]) => `- \`${point}\`: ${reason}.`)
  .join("\n")}
`;
};
