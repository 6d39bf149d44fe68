import { parseSync, Visitor, type VisitorObject } from "oxc-parser";

/** What a rule found. `message` names the replacement, not only the offence. */
export interface Finding {
  readonly path: string;
  /** From 1. */
  readonly line: number;
  readonly rule: string;
  readonly message: string;
}

export interface ImportOf {
  readonly specifier: string;
  readonly offset: number;
}

/** One committed text file, as the rules see it. */
export interface Source {
  /** Relative to the checkout, with forward slashes. */
  readonly path: string;
  readonly text: string;
  lineAt(offset: number): number;
}

/** A TypeScript or JavaScript file, parsed. */
export interface Module extends Source {
  /** Every module named in an import, an export-from or a dynamic import of a literal. */
  readonly imports: readonly ImportOf[];
  visit(visitor: VisitorObject): void;
}

export type Rule<Input extends Source> = (source: Input) => Finding[];

export const createSource = (path: string, text: string): Source => ({
  path,
  text,
  lineAt: (offset) => text.slice(0, offset).split("\n").length,
});

export const isModulePath = (path: string): boolean => /\.(ts|mts|js|mjs)$/.test(path);

/** Tests, their fixtures and the suites that every implementation of a port passes. */
export const isTestPath = (path: string): boolean => path.startsWith("test/") || /\/testing\/|\.(test|fixture|contract)\.ts$/.test(path);

/** Throws a SyntaxError that names the file if it does not parse. */
export const parseModule = (path: string, text: string): Module => {
  const parsed = parseSync(path, text);
  const [error] = parsed.errors;
  if (error !== undefined) throw new SyntaxError(`${path}: ${error.message}`);
  const requests = [
    ...parsed.module.staticImports.map((one) => one.moduleRequest),
    ...parsed.module.staticExports.flatMap((one) => one.entries.flatMap((entry) => entry.moduleRequest ?? [])),
  ].map((request) => ({ specifier: request.value, offset: request.start }));
  const dynamic = parsed.module.dynamicImports.flatMap(({ moduleRequest: { start, end } }) => {
    const literal = /^["'`]([^"'`$]*)["'`]$/.exec(text.slice(start, end));
    return literal?.[1] === undefined ? [] : [{ specifier: literal[1], offset: start }];
  });
  return {
    ...createSource(path, text),
    imports: [...requests, ...dynamic],
    visit: (visitor) => new Visitor(visitor).visit(parsed.program),
  };
};
