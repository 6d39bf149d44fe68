/**
 * Counts which branches of the code under fuzz an input takes. Loaded before everything else (`--import`), it adds a counter to each
 * function, branch, loop and case of the modules below the roots that it is told; their lines stay where they are.
 */
import { readFileSync } from "node:fs";
import { registerHooks, stripTypeScriptTypes } from "node:module";
import { fileURLToPath } from "node:url";
import { parseSync, Visitor } from "oxc-parser";
import type { ESTree } from "../../../scripts/tidy/syntax.ts";

/** All packages together have fewer branches. */
const COUNTERS = 1 << 16;

const COUNTED = ["/packages/formats/src/", "/packages/daemon/src/content/rootfs/"] as const;

declare global {
  /** How often each branch was taken, modulo 256; the number of a branch is its place. */
  var kilnBranches: Uint8Array;
}

globalThis.kilnBranches = new Uint8Array(COUNTERS);
let counters = 0;

/** The places in use, as far as modules have been loaded. */
export const branchCount = (): number => counters + 1;

interface Insertion {
  readonly at: number;
  readonly text: string;
  /** What closes comes before what opens, and the inner before the outer. */
  readonly order: number;
}

/** Where counters go in one module. */
class Counters {
  readonly #insertions: Insertion[] = [];

  #next(): string {
    counters += 1;
    return `kilnBranches[${counters}]++`;
  }

  #insert(at: number, text: string, closes: boolean): void {
    this.#insertions.push({ at, text, order: closes ? -this.#insertions.length : this.#insertions.length + 1 });
  }

  /** A statement that is run or not: a loop's body, a branch. */
  statement(node: ESTree.Statement | ESTree.FunctionBody | null | undefined): void {
    if (node === null || node === undefined) return;
    if (node.type === "BlockStatement") return this.#insert(node.start + 1, `${this.#next()};`, false);
    this.#insert(node.start, `{${this.#next()};`, false);
    return this.#insert(node.end, "}", true);
  }

  expression(node: ESTree.Expression | null | undefined): void {
    if (node === null || node === undefined) return;
    this.#insert(node.start, `(${this.#next()},`, false);
    this.#insert(node.end, ")", true);
  }

  branch(node: ESTree.IfStatement): void {
    // before the branch's own end, which then comes in front of it
    if (node.alternate === null) this.#insert(node.consequent.end, ` else {${this.#next()};}`, true);
    this.statement(node.consequent);
    this.statement(node.alternate);
  }

  case(node: ESTree.SwitchCase): void {
    const [first] = node.consequent;
    if (first !== undefined) this.#insert(first.start, `${this.#next()};`, false);
  }

  applyTo(source: string): string {
    const sorted = [...this.#insertions].sort((a, b) => a.at - b.at || a.order - b.order);
    let text = "";
    let at = 0;
    for (const insertion of sorted) {
      text += source.slice(at, insertion.at) + insertion.text;
      at = insertion.at;
    }
    return text + source.slice(at);
  }
}

const instrument = (path: string): string => {
  const source = stripTypeScriptTypes(readFileSync(path, "utf8"));
  const parsed = parseSync(path.replace(/\.ts$/, ".js"), source);
  const marks = new Counters();
  const body = (node: ESTree.Function): void => marks.statement(node.body);
  new Visitor({
    FunctionDeclaration: body,
    FunctionExpression: body,
    ArrowFunctionExpression: (node) => (node.body.type === "BlockStatement" ? marks.statement(node.body) : marks.expression(node.body)),
    IfStatement: (node) => marks.branch(node),
    ForStatement: (node) => marks.statement(node.body),
    ForOfStatement: (node) => marks.statement(node.body),
    ForInStatement: (node) => marks.statement(node.body),
    WhileStatement: (node) => marks.statement(node.body),
    SwitchCase: (node) => marks.case(node),
    ConditionalExpression: (node) => {
      marks.expression(node.consequent);
      marks.expression(node.alternate);
    },
    LogicalExpression: (node) => marks.expression(node.right),
    CatchClause: (node) => marks.statement(node.body),
  }).visit(parsed.program);
  if (counters >= COUNTERS) throw new RangeError(`there are more than ${COUNTERS} branches to count`);
  return `const kilnBranches = globalThis.kilnBranches; ${marks.applyTo(source)}`;
};

registerHooks({
  load: (url, context, next) => {
    if (!COUNTED.some((part) => url.includes(part)) || !url.endsWith(".ts")) return next(url, context);
    return { format: "module", source: instrument(fileURLToPath(url)), shortCircuit: true };
  },
});
