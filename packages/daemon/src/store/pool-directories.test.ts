import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { HomePool } from "./pool-directories.ts";

const { signal } = new AbortController();

test("a directory of the pool whose disk cannot be written is gone again (found by the simulation)", async () => {
  const root = await mkdtemp(join(tmpdir(), "kiln-pool-"));
  try {
    const full = new HomePool({ root, write: () => Promise.reject(new Error("no room")), randomUuid: () => "" });
    await assert.rejects(full.make("one", { signal }), /no room/);
    assert.deepEqual(await full.list(), []);
    const roomy = new HomePool({ root, write: async () => undefined, randomUuid: () => "" });
    assert.deepEqual(await roomy.list(), []);
    const { directory } = await roomy.make("one", { signal });
    assert.deepEqual(await roomy.list(), [directory]);
  } finally {
    await rm(root, { recursive: true });
  }
});
