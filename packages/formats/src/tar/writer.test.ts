import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { writeTar, type WrittenMember } from "./index.ts";

test("GNU tar and Python read what is written", async () => {
  const directory = await mkdtemp(join(tmpdir(), "kiln-tar-"));
  try {
    const names = ["blobs/sha256/a", `long/${"n".repeat(200)}`, "grün"];
    const members = names.map((path, index): WrittenMember => {
      const content = Buffer.alloc(index * 513, "c");
      return {
        path,
        type: "file",
        sizeBytes: content.length,
        open: async function* open() {
          yield content;
        },
      };
    });
    const chunks: Uint8Array[] = [];
    for await (const chunk of writeTar(members)) chunks.push(chunk);
    const file = join(directory, "x.tar");
    await writeFile(file, Buffer.concat(chunks));
    const environment = { ...process.env, LC_ALL: "C.UTF-8", TZ: "UTC" };
    const listed = execFileSync("tar", ["--numeric-owner", "--full-time", "-tvf", file], { env: environment, encoding: "utf8" });
    assert.deepEqual(
      listed
        .trimEnd()
        .split("\n")
        .map((line) => line.split(/\s+/)),
      names.map((name, index) => ["-rw-r--r--", "0/0", String(index * 513), "1970-01-01", "00:00:00", name]),
    );
    const script = "import sys,tarfile\nfor m in tarfile.open(sys.argv[1],'r:'): print(m.name, m.size)";
    const python = execFileSync("python3", ["-c", script, file], { env: environment, encoding: "utf8" });
    assert.equal(python, names.map((name, index) => `${name} ${index * 513}\n`).join(""));
  } finally {
    await rm(directory, { recursive: true });
  }
});
