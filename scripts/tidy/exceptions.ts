import type { Finding } from "./source.ts";

interface Exception {
  readonly path: string;
  readonly rule: string;
  readonly reason: string;
}

/** Tables and generated files, mostly. */
export const EXCEPTIONS: readonly Exception[] = [
  { path: "packages/protocol/src/errors.ts", rule: "parameters", reason: "row() makes the columns of the error table" },
];

/** The findings that no exception covers, and a finding for each exception that covers none. */
export const withoutExceptions = (findings: readonly Finding[], exceptions: readonly Exception[]): Finding[] => {
  const covers = (exception: Exception, { path, rule }: Finding): boolean => exception.path === path && exception.rule === rule;
  const unused = exceptions.filter((exception) => !findings.some((finding) => covers(exception, finding)));
  return [
    ...findings.filter((finding) => !exceptions.some((exception) => covers(exception, finding))),
    ...unused.map(({ path, rule }) => ({
      path,
      line: 1,
      rule,
      message: "nothing to except here any more: take it out of scripts/tidy/exceptions.ts",
    })),
  ];
};
