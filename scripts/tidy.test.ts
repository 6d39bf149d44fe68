import assert from "node:assert/strict";
import { test } from "node:test";
import { checkFile } from "./tidy.ts";
import { EXCEPTIONS, withoutExceptions } from "./tidy/exceptions.ts";

interface Example {
  readonly path: string;
  readonly text: string;
}

/** The rules that fire, without repetition. */
const rulesFor = ({ path, text }: Example): string[] => [
  ...new Set(checkFile(path, text, { version: "0.1.0", exists: (one) => one === "docs/there.md" }).map(({ rule }) => rule)),
];

/** Text that a rule must not find in this file. */
const joined = (...pieces: readonly string[]): string => pieces.join("");

const importing = (path: string, specifier: string): Example => ({ path, text: `import { x } from "${specifier}";\nx();\n` });
const vm = "packages/daemon/src/vms/x.ts";
const cli = "packages/cli/src/commands/x.ts";

const forbiddenImports: Readonly<Record<string, Example>> = {
  "the domain touches files": importing(vm, "node:fs/promises"),
  "the domain starts processes": importing("packages/daemon/src/operations/x.ts", "node:child_process"),
  "the domain imports an adapter": importing(vm, "../store/database.ts"),
  "images import what stands to their right": importing("packages/daemon/src/images/x.ts", "../vms/record.ts"),
  "a lower rank imports a higher one": importing("packages/daemon/src/pipeline/x.ts", "../operations/operations.ts"),
  "HTTP reaches past the operations": importing("packages/daemon/src/http/x.ts", "../pipeline/pipeline.ts"),
  "HTTP opens files": importing("packages/daemon/src/http/x.ts", "node:fs"),
  "an adapter imports another": importing("packages/daemon/src/vmm/qemu/x.ts", "../../content/store.ts"),
  "the drivers' common ground imports one of them": importing("packages/daemon/src/vmm/limits.ts", "./qemu/driver.ts"),
  "one driver imports another": importing("packages/daemon/src/vmm/qemu/x.ts", "../fake/driver.ts"),
  "the daemon imports the SDK": importing("packages/daemon/src/main.ts", "@kiln/sdk"),
  "the CLI imports the daemon": importing(cli, "@kiln/daemon"),
  "the SDK imports a codec": importing("packages/sdk/src/x.ts", "@kiln/formats/tar"),
  "the web-safe SDK imports Node": importing("packages/sdk/src/x.ts", "node:path"),
  "the protocol imports Node": importing("packages/protocol/src/x.ts", "node:crypto"),
  "std imports a library": importing("packages/std/src/x.ts", "zod"),
  "std imports the protocol": importing("packages/std/src/x.ts", "@kiln/protocol"),
  "a codec opens files": importing("packages/formats/src/tar/x.ts", "node:fs"),
  "a relative path leads into another package": importing(cli, "../../../sdk/src/index.ts"),
  "a folder has no rank": importing("packages/daemon/src/gizmos/x.ts", "@kiln/std"),
  "a module imports a fixture": importing(vm, "./scratch.fixture.ts"),
  "a module imports from a folder of tests": importing(vm, "./testing/stub.ts"),
  "a dynamic import goes round the table": { path: vm, text: 'export const open = () => import("node:fs");\n' },
  "an export-from goes round the table": { path: vm, text: 'export { open } from "node:fs";\n' },
};

const allowedImports: Readonly<Record<string, Example>> = {
  "VMs import images": importing(vm, "../images/records.port.ts"),
  "a store touches files": importing("packages/daemon/src/store/x.ts", "node:fs"),
  "main imports adapters": importing("packages/daemon/src/main.ts", "./vmm/qemu/driver.ts"),
  "a driver imports the drivers' limits": importing("packages/daemon/src/vmm/qemu/x.ts", "../limits.ts"),
  "a codec inflates": importing("packages/formats/src/tar/x.ts", "node:zlib"),
  "HTTP knows requests by type": importing("packages/daemon/src/http/x.ts", "node:http"),
  "the SDK's Node door opens sockets": importing("packages/sdk/src/node/x.ts", "node:net"),
  "a test imports what it needs": importing("packages/daemon/src/vms/x.test.ts", "../store/database.ts"),
};

const functionOf = (lines: number): string => `export const f = () => {\n${"  f();\n".repeat(lines - 2)}};\n`;
const withManifest = (version: string, wanted: string): Example => ({
  path: "packages/x/package.json",
  text: JSON.stringify({ version, dependencies: { zod: wanted } }),
});
const withLock = (entry: object): Example => ({
  path: "package-lock.json",
  text: JSON.stringify({ packages: { "node_modules/x": entry } }),
});

const offences: Readonly<Record<string, Example & { readonly rule: string }>> = {
  "a function of 71 lines": { rule: "function-size", path: vm, text: functionOf(71) },
  "a C function of 71 lines": { rule: "function-size", path: "guest/agent/x.c", text: `int f(void)\n{\n${"    g();\n".repeat(69)}}\n` },
  "a C function with its brace on the first line": {
    rule: "function-size",
    path: "guest/agent/x.c",
    text: `int f(void) {\n${"    g();\n".repeat(69)}}\n`,
  },
  "a file of 401 lines": { rule: "file-size", path: vm, text: "f();\n".repeat(401) },
  "four positional parameters": { rule: "parameters", path: vm, text: "export const f = (a: 1, b: 2, c: 3, d: 4) => a + b + c + d;\n" },
  any: { rule: "any", path: vm, text: "export let x: any;\n" },
  "a non-null assertion": { rule: "non-null", path: vm, text: "export const f = (x?: { y: 1 }) => x!.y;\n" },
  "a double assertion": { rule: "double-as", path: vm, text: "export const f = (x: 1) => x as unknown as string;\n" },
  "an empty catch": { rule: "silent-catch", path: vm, text: "try {\n  f();\n} catch {\n  // no matter\n}\n" },
  "a catch of nothing": { rule: "silent-catch", path: vm, text: "export const f = () => g().catch(() => {});\n" },
  "a catch into undefined": { rule: "silent-catch", path: vm, text: "export const f = () => g().catch(() => undefined);\n" },
  "a plain Error in the daemon": { rule: "plain-error", path: vm, text: 'throw new Error("bad");\n' },
  "console.log in a command": { rule: "console", path: cli, text: 'console.log("hi");\n' },
  "process.exit in a command": { rule: "process-exit", path: cli, text: "process.exit(1);\n" },
  "test.only": { rule: "test-only", path: "packages/std/src/x.test.ts", text: 'test.only("x", () => 1);\n' },
  "the clock of the machine": { rule: "ambient", path: vm, text: "export const at = () => Date.now();\n" },
  "new Date": { rule: "ambient", path: vm, text: "export const at = () => new Date();\n" },
  "a timer": { rule: "ambient", path: vm, text: "setTimeout(() => f(), 5);\n" },
  "dice of the machine": { rule: "ambient", path: vm, text: "export const dice = () => Math.random();\n" },
  "the environment": { rule: "ambient", path: vm, text: "export const home = () => process.env.HOME;\n" },
  "a file named utils": { rule: "file-name", path: "packages/std/src/string-utils.ts", text: "f();\n" },
  "a folder named helpers": { rule: "file-name", path: "packages/std/src/helpers/x.ts", text: "f();\n" },
  "a manager": { rule: "file-name", path: "packages/daemon/src/vms/vm-manager.ts", text: "f();\n" },
  "a note to do it later": { rule: "to-do", path: "README.md", text: joined("TO", "DO: write this\n") },
  "a home directory": { rule: "home-path", path: "README.md", text: joined("see /ho", "me/ann/kiln\n") },
  "a path of this machine in a test": { rule: "home-path", path: "packages/std/src/x.test.ts", text: joined('f("/wo', 'rk/main");\n') },
  "a registry host": { rule: "registry-host", path: "README.md", text: joined("from registry.", "npmjs.org\n") },
  "a broken link": { rule: "links", path: "README.md", text: "[here](docs/gone.md)\n" },
  "a version range": { ...withManifest("0.1.0", "^4.0.0"), rule: "manifest" },
  "a version of its own": { ...withManifest("0.2.0", "4.0.0"), rule: "manifest" },
  "a host in the lockfile": { ...withLock({ resolved: "https://x.test/x.tgz", integrity: "sha512-x" }), rule: "lockfile" },
  "a package without a digest": { ...withLock({}), rule: "lockfile" },
  "an install script": { ...withLock({ integrity: "sha512-x", hasInstallScript: true }), rule: "lockfile" },
};

const innocent: Readonly<Record<string, Example>> = {
  "a function of 70 lines": { path: vm, text: functionOf(70) },
  "a long describe": { path: "packages/std/src/x.test.ts", text: `describe("x", () => {\n${"  f();\n".repeat(80)}});\n` },
  "a table in C": { path: "guest/agent/x.c", text: `static const int t[] = {\n${"    1,\n".repeat(80)}};\n` },
  "the handler of a promise that has a name": { path: vm, text: "ended.catch(() => undefined);\n" },
  "a catch that rethrows": { path: vm, text: "try {\n  f();\n} catch (error) {\n  throw g(error);\n}\n" },
  "a double assertion in a test": { path: "packages/std/src/x.test.ts", text: "export const f = (x: 1) => x as unknown as string;\n" },
  "somebody's home in a test": { path: "packages/std/src/x.test.ts", text: joined('f("/ho', 'me/ann");\n') },
  "any in a comment": { path: vm, text: "// any x! as any\nexport const x = 1;\n" },
  "a timer in an adapter": { path: "packages/daemon/src/store/x.ts", text: "setTimeout(() => f(), 5);\n" },
  "the console in render": { path: "packages/cli/src/render/x.ts", text: 'console.log("hi");\n' },
  "a guest's console": { path: vm, text: 'export const f = (console: string) => console.includes("panic");\n' },
  "a link that leads somewhere": { path: "README.md", text: "[here](docs/there.md#part) and [there](https://example.com)\n" },
  "a pinned version": withManifest("0.1.0", "4.0.0"),
  "a workspace link": withLock({ resolved: "packages/x", link: true }),
};

for (const [name, example] of Object.entries(forbiddenImports)) {
  test(`tidy finds that ${name}`, () => assert.deepEqual(rulesFor(example), ["ranks"]));
}
for (const [name, example] of Object.entries(allowedImports)) {
  test(`tidy allows that ${name}`, () => assert.deepEqual(rulesFor(example), []));
}
for (const [name, { rule, ...example }] of Object.entries(offences)) {
  test(`tidy finds ${name}`, () => assert.deepEqual(rulesFor(example), [rule]));
}
for (const [name, example] of Object.entries(innocent)) {
  test(`tidy allows ${name}`, () => assert.deepEqual(rulesFor(example), []));
}

test("an exception covers its own rule in its own file only, and one that covers nothing is a finding", () => {
  const finding = { path: "a.ts", line: 3, rule: "any", message: "" };
  const exception = { path: "a.ts", rule: "any", reason: "because" };
  assert.deepEqual(withoutExceptions([finding], [exception]), []);
  assert.equal(withoutExceptions([{ ...finding, path: "b.ts" }], [exception]).length, 2);
  assert.equal(withoutExceptions([{ ...finding, rule: "ranks" }], [exception]).length, 2);
  assert.ok(EXCEPTIONS.every(({ reason }) => reason.length > 10));
});

test("a file that does not parse is named", () => {
  assert.throws(() => rulesFor({ path: vm, text: "export const = 1;\n" }), /packages\/daemon\/src\/vms\/x\.ts/);
});
