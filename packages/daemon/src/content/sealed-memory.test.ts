import assert from "node:assert/strict";
import { copyFile, mkdtemp, open, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { KilnError } from "@kiln/protocol";
import type { MemoryMap } from "../snapshots/preboot.ts";
import { loadSealedMemory, mapMemory } from "./sealed-memory.ts";

const PROGRAM = join(import.meta.dirname, "../../../../.cache/agent/kiln-descriptors");
const BYTES = 5 * 2 ** 20;
const signal = new AbortController().signal;

describe("sealed memory", () => {
  let directory: string;
  let path: string;
  let map: MemoryMap;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "kiln-memory-"));
    path = join(directory, "memory");
    await writeFile(path, "at the start");
    await truncate(path, BYTES);
    await using file = await open(path, "r+");
    await file.write("in the middle", 3 * 2 ** 20 - 5);
    map = await mapMemory(path, { signal });
  });
  after(() => rm(directory, { recursive: true }));

  test("the map names what is not zero", () => {
    assert.deepEqual(map.extents, [
      [0, 65536],
      [3 * 2 ** 20 - 65536, 2 * 65536],
    ]);
    assert.equal(map.bytes, BYTES);
  });

  test("holds what was saved, holes included, and cannot be changed, also not by who opens it again", async () => {
    await using memory = await loadSealedMemory({ path, map }, { program: PROGRAM, signal });
    await using again = await open(`/proc/self/fd/${memory.descriptor}`, "r+");
    assert.deepEqual(await again.readFile(), await readFile(path));
    await assert.rejects(async () => again.write("x", 0), { code: "EPERM" });
    await assert.rejects(async () => again.truncate(0), { code: "EPERM" });
    await assert.rejects(async () => again.truncate(BYTES + 1), { code: "EPERM" });
    const { blocks } = await again.stat();
    assert.ok(blocks * 512 <= 4 * 65536, `${blocks} blocks`);
  });

  test("I34 a missing, a short, a long and a changed file are refused by name", async () => {
    const refuse = async (file: { path: string; map: MemoryMap }, words: RegExp): Promise<void> => {
      await assert.rejects(loadSealedMemory(file, { program: PROGRAM, signal }), (error: unknown) => {
        assert.ok(error instanceof KilnError && error.code === "ARTIFACT_DAMAGED", String(error));
        assert.match(error.message, words);
        return true;
      });
    };
    await refuse({ path: join(directory, "none"), map }, /none cannot be read/);
    await refuse({ path, map: { ...map, bytes: BYTES + 4096 } }, /has 5242880 bytes instead of 5246976/);
    await refuse({ path, map: { ...map, bytes: BYTES - 4096 } }, /has 5242880 bytes instead of/);
    const other = join(directory, "other");
    await copyFile(path, other);
    await using file = await open(other, "r+");
    await file.write("I", 3 * 2 ** 20 - 5);
    await refuse({ path: other, map }, /other is not what was saved/);
  });

  test("an abort leaves nothing open", async () => {
    await assert.rejects(loadSealedMemory({ path, map }, { program: PROGRAM, signal: AbortSignal.abort(new Error("left")) }), /left/);
  });
});
