import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { loadRegistryConfig, NO_SETTINGS, type Registries, settingsOf } from "./registry-config.ts";

const withFile = async (text: string, run: (file: string) => Promise<void>): Promise<void> => {
  const directory = await mkdtemp(join(tmpdir(), "kiln registries "));
  try {
    const file = join(directory, "registries.toml");
    await writeFile(file, text);
    await run(file);
  } finally {
    await rm(directory, { recursive: true });
  }
};

const read = (...files: readonly string[]): Promise<Registries> => loadRegistryConfig(files).read();

suite("registries.toml", () => {
  test("a missing file says nothing, and all settings have a default", async () => {
    assert.deepEqual(await read("/nowhere/registries.toml"), new Map());
    await withFile('[registry."docker.io"]\n', async (file) => assert.deepEqual(await read(file), new Map([["docker.io", NO_SETTINGS]])));
  });

  test("everything that can be said of a registry", () =>
    withFile(
      [
        '[registry."docker.io"]',
        'mirrors = ["mirror:5000", "proxy/cache/docker"]',
        'redirects = ["storage:9000", "cdn"]',
        '[registry."mirror:5000"]',
        "plain-http = true",
        'ca = "ca.pem"',
        'client-certificate = "/etc/us.cert"',
        'client-key = "us.key"',
        "[registry.bad]",
        "blocked = true",
      ].join("\n"),
      async (file) => {
        const directory = join(file, "..");
        const registries = await read(file);
        assert.deepEqual(registries.get("docker.io")?.mirrors, ["mirror:5000", "proxy/cache/docker"]);
        assert.deepEqual(registries.get("docker.io")?.redirects, ["storage:9000", "cdn"]);
        assert.deepEqual(registries.get("mirror:5000"), {
          ...NO_SETTINGS,
          plainHttp: true,
          ca: join(directory, "ca.pem"),
          clientCertificate: "/etc/us.cert",
          clientKey: join(directory, "us.key"),
        });
        assert.equal(registries.get("bad")?.blocked, true);
      },
    ));

  test("names in capitals are the same", () =>
    withFile('[registry."Registry.Example:5000"]\nblocked = true\n', async (file) => {
      const registries = await read(file);
      assert.deepEqual(
        ["registry.example:5000", "REGISTRY.example:5000", "registry.example"].map((name) => settingsOf(registries, name).blocked),
        [true, true, false],
      );
    }));

  test("an edit holds from the next reading on, and the last file wins", () =>
    withFile("[registry.a]\nblocked = true\n[registry.b]\nblocked = true\n", async (first) =>
      withFile("[registry.a]\n", async (second) => {
        const config = loadRegistryConfig([first, second]);
        assert.deepEqual(
          [...(await config.read())].map(([name, { blocked }]) => [name, blocked]),
          [
            ["a", false],
            ["b", true],
          ],
        );
        await writeFile(second, "");
        assert.equal((await config.read()).get("a")?.blocked, true);
      }),
    ));

  const damaged: readonly (readonly [string, number, RegExp])[] = [
    ["[registry.a]\nblocked = maybe\n", 2, /blocked|invalid|expected/i],
    ["[registry.a]\nblocked = true\n\nblocked = true\n", 4, /redefine|already|twice/i],
    ["[registry.a\n", 1, /./],
    ['[registry.a]\n\nblocked = "yes"\n', 3, /registry\.a\.blocked/],
    ["[registry.a]\nmirror = []\n", 1, /mirror/],
    ['[registry.a]\nmirrors = ["ok", "https://x"]\n', 2, /HOST/],
    ['[registry."https://a"]\n', 1, /HOST/],
    ["registries = 1\n", 1, /registries/],
    ['[registry.b]\nca = ""\n', 2, /ca/],
  ];
  for (const [text, line, pattern] of damaged) {
    test(`${JSON.stringify(text)} is refused with file and line`, () =>
      withFile(text, async (file) => {
        await assert.rejects(read(file), (error: Error & { code?: string }) => {
          assert.equal(error.code, "REGISTRY_CONFIG_INVALID");
          assert.ok(error.message.startsWith(`${file}, line ${line}: `), error.message);
          assert.match(error.message, pattern);
          return true;
        });
      }));
  }

  test("a directory in its place is refused by its name", async () => {
    await assert.rejects(read(tmpdir()), { code: "REGISTRY_CONFIG_INVALID", object: tmpdir() });
  });
});
