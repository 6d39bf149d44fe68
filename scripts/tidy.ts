/**
 * The house rules that no linter knows: who may import whom, how long things may be, and patterns that have a
 * better replacement. Prints one line for each finding; exits 1 if there is any.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { checkBanned, checkFileName } from "./tidy/banned.ts";
import { EXCEPTIONS, withoutExceptions } from "./tidy/exceptions.ts";
import { checkLockfile, checkManifest } from "./tidy/manifests.ts";
import { checkRanks } from "./tidy/ranks.ts";
import { checkCFunctions, checkFileSize, checkFunctions } from "./tidy/size.ts";
import { createSource, isModulePath, parseModule, type Finding } from "./tidy/source.ts";
import { checkLinks, checkText } from "./tidy/text.ts";

const checkModule = (path: string, text: string): Finding[] => {
  const module = parseModule(path, text);
  return [checkRanks, checkFunctions, checkBanned].flatMap((check) => check(module));
};

/** Committed files, and those that are about to be. */
const listFiles = (root: string): string[] =>
  execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "-z"], { cwd: root, encoding: "utf8" })
    .split("\0")
    .filter((path) => path !== "" && existsSync(join(root, path)) && statSync(join(root, path)).isFile());

const isBinary = (bytes: Buffer): boolean => bytes.subarray(0, 8000).includes(0);

/** All findings of one file. `exists` answers for paths relative to the checkout. */
export const checkFile = (path: string, text: string, context: { version: string; exists: (path: string) => boolean }): Finding[] => {
  const source = createSource(path, text);
  if (path === "package-lock.json") return checkLockfile(source);
  return [
    ...checkFileName(path),
    ...checkFileSize(source),
    ...checkCFunctions(source),
    ...checkText(source),
    ...checkLinks(source, context.exists),
    ...(path.endsWith("package.json") ? checkManifest(source, context.version) : []),
    ...(isModulePath(path) ? checkModule(path, text) : []),
  ];
};

export const tidy = (root: string): Finding[] => {
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  const exists = (path: string): boolean => existsSync(join(root, path));
  const findings = listFiles(root).flatMap((path) => {
    const bytes = readFileSync(join(root, path));
    return isBinary(bytes) ? [] : checkFile(path, bytes.toString("utf8"), { version, exists });
  });
  return withoutExceptions(findings, EXCEPTIONS);
};

if (import.meta.main) {
  const findings = tidy(resolve(import.meta.dirname, ".."));
  for (const { path, line, rule, message } of findings) console.log(`${path}:${line}: ${rule}: ${message}`);
  if (findings.length > 0) console.log(`tidy: ${findings.length} findings`);
  process.exitCode = findings.length > 0 ? 1 : 0;
}
