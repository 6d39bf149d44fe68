import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { loadRegistryConfig } from "../../packages/daemon/src/registry/registry-config.ts";
import { TestHome } from "./home.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const run = promisify(execFile);

interface Line {
  readonly command: string;
  /** What its output holds, where the page says so after `# =>`. */
  readonly expected: string;
}

/** The lines of the blocks that are marked as ```sh run. */
const linesOf = (text: string): Line[] =>
  [...text.matchAll(/^```sh run\n(.*?)^```$/gms)].flatMap(([, block = ""]) =>
    block.split("\n").flatMap((line) => {
      const [, command = "", expected = ""] = /^(.*?)(?:\s+# => (.*))?$/.exec(line) ?? [];
      return command.trim() === "" ? [] : [{ command: command.trim(), expected }];
    }),
  );

describe("the commands of the pages do what the pages say", () => {
  let home: TestHome;
  before(async () => {
    home = await TestHome.warm({ memory: "512m" });
  });
  after(() => home[Symbol.asyncDispose]());
  for (const page of ["docs/getting-started.md", "docs/images-and-registries.md"]) {
    test(page, async (context) => {
      const cwd = await mkdtemp(join(tmpdir(), "kiln-docs-"));
      context.after(() => rm(cwd, { recursive: true }));
      await symlink(join(ROOT, "kiln"), join(cwd, "kiln"));
      const lines = linesOf(await readFile(join(ROOT, page), "utf8"));
      assert.ok(lines.length >= 9, `${page} has ${lines.length} lines to run`);
      for (const { command, expected } of lines) {
        const { stdout } = await run("sh", ["-c", command], { cwd, env: { ...process.env, KILN_HOME: home.path } });
        assert.ok(stdout.includes(expected), `${command} printed ${stdout}`);
      }
    });
  }
});

test("the registries.toml of the page is one, and sets what the page says", async (context) => {
  const directory = await mkdtemp(join(tmpdir(), "kiln-docs-"));
  context.after(() => rm(directory, { recursive: true }));
  const [, toml = ""] = /^```toml\n(.*?)^```$/ms.exec(await readFile(join(ROOT, "docs/images-and-registries.md"), "utf8")) ?? [];
  await writeFile(join(directory, "registries.toml"), toml);
  const registries = await loadRegistryConfig([join(directory, "registries.toml")], { certificateDirs: [] }).read();
  assert.deepEqual(registries.get("docker.io")?.mirrors, ["mirror.example:5000", "cache.example/hub"]);
  assert.equal(registries.get("registry.example")?.ca, join(directory, "registry-ca.pem"));
  assert.deepEqual(registries.get("registry.example")?.redirects, ["storage.example"]);
  assert.equal(registries.get("10.0.0.5:5000")?.plainHttp, true);
  assert.equal(registries.get("evil.example")?.blocked, true);
});
