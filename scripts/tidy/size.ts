import type { ESTree } from "./syntax.ts";
import type { Finding, Module, Source } from "./source.ts";

export const FUNCTION_LINES_MAX = 70;
export const FILE_LINES_MAX = 400;
export const PARAMETERS_MAX = 3;

const countLines = (text: string): number => text.split("\n").length - (text.endsWith("\n") ? 1 : 0);

export const checkFileSize = (source: Source): Finding[] => {
  if (!/\.(ts|mts|mjs|js|c|h|sh)$/.test(source.path)) return [];
  const lines = countLines(source.text);
  if (lines <= FILE_LINES_MAX) return [];
  return [{ path: source.path, line: 1, rule: "file-size", message: `${lines} lines, more than ${FILE_LINES_MAX}: split it by concern` }];
};

/** Functions of C begin and end in column 0. */
export const checkCFunctions = (source: Source): Finding[] => {
  if (!/\.[ch]$/.test(source.path)) return [];
  const findings: Finding[] = [];
  let start = 0;
  source.text.split("\n").forEach((line, index) => {
    if (/^[A-Za-z_].*\)\s*\{\s*$/.test(line) || (line === "{" && start === 0)) start = index + 1;
    if (!line.startsWith("}") || start === 0) return;
    const lines = index + 2 - start;
    if (lines > FUNCTION_LINES_MAX) findings.push({ path: source.path, line: start, rule: "function-size", message: tooLong(lines) });
    start = 0;
  });
  return findings;
};

const tooLong = (lines: number): string =>
  `a function of ${lines} lines, more than ${FUNCTION_LINES_MAX}: pull loops and decisions into functions with names`;

type AnyFunction = ESTree.Function | ESTree.ArrowFunctionExpression;

/** `describe("…", () => { … })` is a heading, not a function that someone has to hold in mind. */
const isSuite = (call: ESTree.CallExpression): boolean => call.callee.type === "Identifier" && /^(describe|suite)$/.test(call.callee.name);

export const checkFunctions = (module: Module): Finding[] => {
  const findings: Finding[] = [];
  const suites = new Set<number>();
  const check = (node: AnyFunction): void => {
    const first = module.lineAt(node.start);
    const lines = module.lineAt(node.end) - first + 1;
    const at = { path: module.path, line: first };
    if (lines > FUNCTION_LINES_MAX && !suites.has(node.start)) findings.push({ ...at, rule: "function-size", message: tooLong(lines) });
    if (node.params.length > PARAMETERS_MAX) {
      findings.push({
        ...at,
        rule: "parameters",
        message: `${node.params.length} positional parameters, more than ${PARAMETERS_MAX}: pass an object with names`,
      });
    }
  };
  module.visit({
    CallExpression: (call) => {
      if (isSuite(call)) for (const argument of call.arguments) suites.add(argument.start);
    },
    FunctionDeclaration: check,
    FunctionExpression: check,
    ArrowFunctionExpression: check,
  });
  return findings;
};
