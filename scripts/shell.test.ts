import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";

const ROOT = resolve(import.meta.dirname, "..");
const isShell = (path: string): boolean => /^#!.*\b(sh|bash)\b/.test(readFileSync(join(ROOT, path), "utf8").slice(0, 40));
const listed = execFileSync("git", ["ls-files", "kiln", "scripts", ".ci", "guest"], { cwd: ROOT, encoding: "utf8" });

test("shellcheck has nothing to say about any shell script", () => {
  const scripts = listed.split("\n").filter((path) => path !== "" && isShell(path));
  assert.ok(
    ["kiln", "scripts/bootstrap", ".ci/run", "guest/agent/build"].every((path) => scripts.includes(path)),
    scripts.join(" "),
  );
  // SC2086: lists of flags and package names are split on purpose; SC1007, SC2209: `CDPATH= cd` and words that are names of programs
  const { status, stdout } = spawnSync("shellcheck", ["--exclude=SC1007,SC2086,SC2209", ...scripts], { cwd: ROOT, encoding: "utf8" });
  assert.equal(status, 0, stdout);
});
