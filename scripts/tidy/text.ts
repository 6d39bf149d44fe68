import { posix } from "node:path";
import { isTestPath, type Finding, type Source } from "./source.ts";

interface Ban {
  readonly rule: string;
  readonly pattern: RegExp;
  readonly message: string;
  readonly exceptTests?: boolean;
}

const MACHINE_PATH = "a path of one person's machine: derive it from import.meta.url, the home or a temporary directory";

/** Patterns are put together from pieces, so that this file does not find itself. */
const joined = (...pieces: readonly string[]): string => pieces.join("");

const BANS: readonly Ban[] = [
  {
    rule: "to-do",
    pattern: new RegExp(joined("\\b(TO", "DO|FIX", "ME|X", "XX|HA", "CK)\\b"), "g"),
    message: "do it now, or file an issue and say here what holds today",
  },
  {
    rule: "home-path",
    pattern: new RegExp(joined("/(ho", "me|Us", "ers)/[a-z]{3}"), "g"),
    message: MACHINE_PATH,
    exceptTests: true,
  },
  { rule: "home-path", pattern: new RegExp(joined("/wo", "rk/(main|shared)"), "g"), message: MACHINE_PATH },
  {
    rule: "registry-host",
    pattern: new RegExp(joined("\\b(registry\\.", "npmjs|registry\\.", "yarnpkg|deb\\.", "debian\\.org|security\\.", "debian\\.org)"), "g"),
    message: "the host's own npm and apt configuration says where packages come from: name the package only",
  },
];

export const checkText = (source: Source): Finding[] =>
  BANS.filter(({ exceptTests }) => exceptTests !== true || !isTestPath(source.path)).flatMap(({ rule, pattern, message }) =>
    [...source.text.matchAll(pattern)].map((match) => ({
      path: source.path,
      line: source.lineAt(match.index),
      rule,
      message: `"${match[0]}": ${message}`,
    })),
  );

/** Every relative link of a Markdown file leads to a committed file or folder. */
export const checkLinks = (source: Source, exists: (path: string) => boolean): Finding[] => {
  if (!source.path.endsWith(".md")) return [];
  return [...source.text.matchAll(/\]\(([^)#\s]+)(#[^)]*)?\)/g)].flatMap((match) => {
    const [, target = ""] = match;
    if (/^[a-z]+:/.test(target) || exists(posix.join(posix.dirname(source.path), target))) return [];
    return [{ path: source.path, line: source.lineAt(match.index), rule: "links", message: `${target} is not there: mend the link` }];
  });
};
