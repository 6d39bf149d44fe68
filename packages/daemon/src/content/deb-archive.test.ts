import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { readDebTar } from "./deb-archive.ts";

const collect = async <Item>(items: AsyncIterable<Item>): Promise<Item[]> => {
  const all: Item[] = [];
  for await (const item of items) all.push(item);
  return all;
};

const { signal } = new AbortController();

const withDeb = async (run: (path: string) => Promise<void>): Promise<void> => {
  const directory = await mkdtemp(join(tmpdir(), "kiln-deb-"));
  try {
    await mkdir(join(directory, "root/DEBIAN"), { recursive: true });
    await writeFile(
      join(directory, "root/DEBIAN/control"),
      "Package: kiln-probe\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: probe\n",
    );
    await writeFile(join(directory, "root/data"), Buffer.alloc(2_000_000, 1));
    execFileSync("dpkg-deb", ["--build", "root", "probe.deb"], { cwd: directory, stdio: "ignore" });
    await run(join(directory, "probe.deb"));
  } finally {
    await rm(directory, { recursive: true });
  }
};

suite("the tar in a .deb", () => {
  test("it comes as dpkg-deb gives it", () =>
    withDeb(async (path) => {
      const tar = await readDebTar(path, async (chunks) => Buffer.concat(await collect(chunks)), { signal });
      assert.deepEqual(tar, execFileSync("dpkg-deb", ["--fsys-tarfile", path], { maxBuffer: 1e8 }));
    }));

  test("a consumer that fails ends dpkg-deb and its own error comes back", () =>
    withDeb(async (path) => {
      const fail = async (chunks: AsyncIterable<Uint8Array>): Promise<void> => {
        for await (const chunk of chunks) if (chunk.length > 0) throw new Error("no room");
      };
      await assert.rejects(readDebTar(path, fail, { signal }), { message: "no room" });
    }));

  test("what is no package is a typed error, and a caller that leaves gets its own reason", () =>
    withDeb(async (path) => {
      const drain = async (chunks: AsyncIterable<Uint8Array>): Promise<number> => (await collect(chunks)).length;
      await writeFile(`${path}.bad`, "!<arch>\nnonsense");
      await assert.rejects(readDebTar(`${path}.bad`, drain, { signal }), { code: "PACKAGE_FETCH_FAILED" });
      await assert.rejects(readDebTar(path, drain, { signal: AbortSignal.abort(new Error("left")) }), { message: "left" });
    }));
});
