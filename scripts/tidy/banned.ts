import { basename } from "node:path";
import { placeNameOf } from "./ranks.ts";
import { isTestPath, type Finding, type Module } from "./source.ts";
import type { ESTree } from "./syntax.ts";

const isEntryPoint = (path: string): boolean =>
  /^packages\/[^/]+\/bin\//.test(path) || /^packages\/(cli|daemon)\/src\/main\.ts$/.test(path) || !path.startsWith("packages/");
const writesToConsole = (path: string): boolean => /^packages\/cli\/(bin|src\/render)\//.test(path) || !path.startsWith("packages/");
/** Where time, randomness and the environment come in as arguments, so that a simulation can replace them. */
const isSimulated = (path: string): boolean => {
  const place = placeNameOf(path);
  return (
    place !== null && ["formats", "images", "kernels", "templates", "vms", "snapshots", "nodes", "pipeline", "operations"].includes(place)
  );
};
const throwsKilnErrors = (path: string): boolean => /^packages\/(daemon|sdk|cli)\/src\//.test(path);

const AMBIENT: ReadonlyMap<string, string> = new Map([
  ["Date.now", "take a Clock and call clock.now()"],
  ["performance.now", "take a Clock and call clock.monotonicMs()"],
  ["Math.random", "take a RandomSource"],
  ["crypto.randomUUID", "take a RandomSource"],
  ["setTimeout", "take a Clock and await clock.sleep(ms, { signal })"],
  ["setInterval", "take a Clock and await clock.sleep(ms, { signal }) in a loop"],
  ["process.env", "take the value as an argument; config reads the environment"],
]);

/** `a.b` and `a` as text; null for what is neither. */
const nameOf = (node: ESTree.Expression | ESTree.Super): string | null => {
  if (node.type === "Identifier") return node.name;
  if (node.type === "MemberExpression" && !node.computed && node.object.type === "Identifier" && node.property.type === "Identifier") {
    return `${node.object.name}.${node.property.name}`;
  }
  return null;
};

/** `() => {}`, `() => undefined`, `() => null`: what a silent `.catch()` is given. */
const isSilent = (node: ESTree.Argument | undefined): boolean => {
  if (node?.type !== "ArrowFunctionExpression") return false;
  if (node.body.type === "BlockStatement") return node.body.body.length === 0;
  return (node.body.type === "Identifier" && node.body.name === "undefined") || (node.body.type === "Literal" && node.body.value === null);
};

const SILENT = "an error must not vanish: name the errno that is expected, rethrow the rest with its cause, or log it";

type Report = (node: { readonly start: number }, rule: string, message: string) => void;

/**
 * `remove(path).catch(() => undefined)`: nobody can see this failure. With a promise that has a name somebody else
 * awaits it, and the handler only says that they may come later.
 */
const isSilentCatch = ({ callee, arguments: [handler] }: ESTree.CallExpression): boolean =>
  callee.type === "MemberExpression" &&
  callee.object.type === "CallExpression" &&
  callee.property.type === "Identifier" &&
  callee.property.name === "catch" &&
  isSilent(handler);

const bannedCalls = (path: string, report: Report) => (node: ESTree.CallExpression) => {
  const name = nameOf(node.callee);
  if (isSilentCatch(node)) report(node, "silent-catch", SILENT);
  if (name === null) return;
  if (/^console\.(log|error|warn|info|debug|trace|dir|table|group|time)/.test(name) && !writesToConsole(path) && !isTestPath(path)) {
    report(node, "console", "only the CLI's render/ writes to the console: return the value to it, or use the injected logger");
  }
  if (name === "process.exit" && !isEntryPoint(path) && !isTestPath(path))
    report(node, "process-exit", "set process.exitCode and return, or throw a KilnError");
  if (/^(test|it|describe|suite)\.only$/.test(name)) report(node, "test-only", "the other tests would not run: remove .only");
  const replacement = AMBIENT.get(name);
  if (replacement !== undefined && isSimulated(path) && !isTestPath(path))
    report(node, "ambient", `${name} cannot be simulated: ${replacement}`);
};

const isCallTo = (node: ESTree.Expression, name: string): boolean => node.type === "NewExpression" && nameOf(node.callee) === name;

export const checkBanned = (module: Module): Finding[] => {
  const findings: Finding[] = [];
  const { path } = module;
  const report: Report = (node, rule, message) => findings.push({ path, line: module.lineAt(node.start), rule, message });
  module.visit({
    TSAnyKeyword: (node) => report(node, "any", "use unknown and parse it into an honest type"),
    TSNonNullExpression: (node) =>
      report(node, "non-null", "check it and throw what is wrong, or change the type so that it cannot be missing"),
    TSAsExpression: (node) => {
      if (node.expression.type === "TSAsExpression" && !isTestPath(path))
        report(node, "double-as", "a double assertion silences the compiler: parse the value, or fix the types");
    },
    CatchClause: (node) => {
      if (node.body.body.length === 0) report(node, "silent-catch", SILENT);
    },
    ThrowStatement: (node) => {
      if (throwsKilnErrors(path) && !isTestPath(path) && isCallTo(node.argument, "Error")) {
        report(node, "plain-error", "throw new KilnError(CODE, what was being done to which object, { cause })");
      }
    },
    NewExpression: (node) => {
      if (isSimulated(path) && !isTestPath(path) && nameOf(node.callee) === "Date" && node.arguments.length === 0) {
        report(node, "ambient", "new Date() cannot be simulated: take a Clock and call clock.now()");
      }
    },
    MemberExpression: (node) => {
      if (nameOf(node) === "process.env" && isSimulated(path) && !isTestPath(path))
        report(node, "ambient", `process.env cannot be simulated: ${AMBIENT.get("process.env")}`);
    },
    CallExpression: bannedCalls(path, report),
  });
  return findings;
};

const VAGUE_NAME = /^(utils?|helpers?|common|misc|managers?|services?)$/;

/** Names that say nothing attract everything. */
export const checkFileName = (path: string): Finding[] => {
  const vague = [...path.split("/").slice(0, -1), ...basename(path).split(/[-_.]/)].find((word) => VAGUE_NAME.test(word));
  if (vague === undefined) return [];
  return [{ path, line: 1, rule: "file-name", message: `"${vague}" says nothing: name the file after the one thing that it does` }];
};
