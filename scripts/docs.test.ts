import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { COMMANDS } from "../packages/cli/src/commands/table.ts";

const ROOT = resolve(import.meta.dirname, "..");
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

test("every command that the README shows is there", () => {
  const known = new Set(COMMANDS.flatMap(({ path, aliases = [] }) => [path.join(" "), ...aliases]));
  const shown = [...read("README.md").matchAll(/\.\/kiln ([a-z]+)(?: ([a-z]+))?/g)];
  assert.ok(shown.length > 10);
  for (const [text, first = "", second = ""] of shown) assert.ok(known.has(first) || known.has(`${first} ${second}`), text);
});

test("every script that the documents name is in package.json", () => {
  const { scripts } = JSON.parse(read("package.json")) as { scripts: Readonly<Record<string, string>> };
  for (const [text, name = ""] of ["README.md", "CONTRIBUTING.md"].flatMap((path) => [
    ...read(path).matchAll(/npm run (?:-s )?([a-z]+)/g),
  ])) {
    assert.ok(Object.hasOwn(scripts, name), text);
  }
});

test("every decision is in the index, and every folder of the daemon in ARCHITECTURE.md", () => {
  const index = read("docs/adr/README.md");
  for (const file of readdirSync(join(ROOT, "docs/adr"))) assert.ok(file === "README.md" || index.includes(`(${file})`), file);
  const architecture = read("ARCHITECTURE.md");
  for (const entry of readdirSync(join(ROOT, "packages/daemon/src"), { withFileTypes: true })) {
    if (entry.isDirectory()) assert.ok(architecture.includes(`\`${entry.name}\``) || architecture.includes(`\`${entry.name}/`), entry.name);
  }
});
