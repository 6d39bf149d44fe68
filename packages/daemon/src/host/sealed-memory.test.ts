import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, open, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { KilnError } from "@kiln/protocol";
import { loadSealedMemory } from "./sealed-memory.ts";

const PROGRAM = join(import.meta.dirname, "../../../../.cache/agent/kiln-descriptors");
const BYTES = 5 * 2 ** 20;
const signal = new AbortController().signal;

describe("sealed memory", () => {
  let directory: string;
  let path: string;
  let sha256: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "kiln-memory-"));
    path = join(directory, "memory");
    await writeFile(path, "at the start");
    await truncate(path, BYTES);
    await using file = await open(path, "r+");
    await file.write("in the middle", 3 * 2 ** 20);
    sha256 = createHash("sha256")
      .update(await file.readFile())
      .digest("hex");
  });
  after(() => rm(directory, { recursive: true }));

  test("holds what was saved, holes included, and cannot be changed, also not by who opens it again", async () => {
    await using memory = await loadSealedMemory({ path, bytes: BYTES, sha256 }, { program: PROGRAM, signal });
    assert.equal(memory.sha256, sha256);
    await using again = await open(`/proc/self/fd/${memory.descriptor}`, "r+");
    const bytes = await again.readFile();
    assert.equal(createHash("sha256").update(bytes).digest("hex"), sha256);
    await assert.rejects(async () => again.write("x", 0), { code: "EPERM" });
    await assert.rejects(async () => again.truncate(0), { code: "EPERM" });
    await assert.rejects(async () => again.truncate(BYTES + 1), { code: "EPERM" });
    const { blocks } = await again.stat();
    assert.ok(blocks * 512 <= 3 * 2 ** 20, `${blocks} blocks`);
  });

  test("I34 a missing, a short, a long and a changed file are refused by name", async () => {
    const refuse = async (file: { path: string; bytes: number; sha256: string }, words: RegExp): Promise<void> => {
      await assert.rejects(loadSealedMemory(file, { program: PROGRAM, signal }), (error: unknown) => {
        assert.ok(error instanceof KilnError && error.code === "ARTIFACT_DAMAGED", String(error));
        assert.match(error.message, words);
        return true;
      });
    };
    await refuse({ path: join(directory, "none"), bytes: BYTES, sha256 }, /none cannot be read/);
    await refuse({ path, bytes: BYTES + 4096, sha256 }, /has 5242880 bytes instead of 5246976/);
    await refuse({ path, bytes: BYTES - 4096, sha256 }, /has 5242880 bytes instead of/);
    await refuse({ path, bytes: BYTES, sha256: sha256.replace(/^./, (digit) => (digit === "0" ? "1" : "0")) }, /not what was saved/);
  });

  test("an abort leaves nothing open", async () => {
    await assert.rejects(
      loadSealedMemory({ path, bytes: BYTES, sha256 }, { program: PROGRAM, signal: AbortSignal.abort(new Error("left")) }),
      /left/,
    );
  });
});
