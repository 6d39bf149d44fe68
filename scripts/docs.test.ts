import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { createProgram, findCommand } from "../packages/cli/src/program.ts";

const ROOT = resolve(import.meta.dirname, "..");
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

const PAGES = ["README.md", ...readdirSync(join(ROOT, "docs")).flatMap((name) => (name.endsWith(".md") ? [`docs/${name}`] : []))];

/** Every `kiln …` of a page: in its blocks as `./kiln …`, several on a line too, and between backquotes; without comments. */
const commandsIn = (page: string): string[] => {
  const text = read(page);
  const lines = [...text.matchAll(/^ *(?:.*[;&|] |\$ )?\.\/kiln .*$/gm)].map(([line]) => line.replace(/ +# .*$/, ""));
  const inside = lines.flatMap((line) => [...line.matchAll(/\$\(([^)]*)\)/g)].map(([, inner = ""]) => inner));
  const pieces = [...lines.map((line) => line.replace(/\$\([^)]*\)/g, "X")), ...inside].flatMap((line) => line.split(/; |&& |\| /));
  const quoted = [...text.matchAll(/`(?:\.\/)?(kiln [^`]+)`/g)].map(([, command = ""]) => command);
  return [...pieces, ...quoted].flatMap((piece) => /^\s*(?:\.\/)?kiln (.*)$/.exec(piece.trim())?.[1] ?? []);
};

/** The words of a command that are its own: what stands after the image or the VM is the guest's. */
const TAKES_ALL = new Set(["run", "create", "exec"]);

type Command = NonNullable<Awaited<ReturnType<typeof findCommand>>>;

const checkCommand = async (text: string, where: string): Promise<void> => {
  const program = createProgram(
    () => Promise.resolve(),
    () => undefined,
  );
  const words = text.split(/\s+/).filter((word) => word !== "");
  const [first = "", second = ""] = words;
  if (/^(-|[A-Z…])/.test(first)) return;
  const command = (await findCommand(program, [first, second])) ?? (await findCommand(program, [first]));
  assert.ok(command !== null, `${where}: there is no command ${text}`);
  const rest = words.slice(command.parent === program ? 1 : 2);
  let isValue = false;
  for (const word of rest) {
    if (word === "--") return;
    if (!isValue && !word.startsWith("-") && TAKES_ALL.has(first)) return;
    isValue = !isValue && word.startsWith("-") && takesValue(command, word, `${where}: \`kiln ${text}\``);
  }
};

/** Whether the next word belongs to these flags: `--name`, `-it`. Fails for one that the command does not have. */
const takesValue = (command: Command, word: string, where: string): boolean => {
  const flags = word.startsWith("--") ? [word] : [...word.slice(1)].map((letter) => `-${letter}`);
  const wanted = flags.filter((flag) => flag !== "--help");
  const found = wanted.map((flag) => command.options.find((one) => one.long === flag || one.short === flag));
  assert.ok(!found.includes(undefined), `${where} has no ${wanted[found.indexOf(undefined)]}`);
  return found.some((option) => option?.required === true);
};

test("every command that the pages show is there, with each of its flags", async () => {
  let count = 0;
  for (const page of PAGES) {
    for (const command of commandsIn(page)) {
      await checkCommand(command, page);
      count += 1;
    }
  }
  assert.ok(count > 60, `only ${count} commands were found`);
  await assert.rejects(checkCommand("rnu x", "a page"), /no command/);
  await assert.rejects(checkCommand("run --rm -ix debian", "a page"), /no -x/);
  await assert.rejects(checkCommand("image ls --no-such", "a page"), /no --no-such/);
});

test("every script that the documents name is in package.json", () => {
  const { scripts } = JSON.parse(read("package.json")) as { scripts: Readonly<Record<string, string>> };
  for (const [text, name = ""] of ["README.md", "CONTRIBUTING.md"].flatMap((path) => [
    ...read(path).matchAll(/npm run (?:-s )?([a-z-]+)/g),
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
