import assert from "node:assert/strict";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { makeDirectories } from "./make-directories.ts";

test("missing parents are made, what is there is kept, and a place that refuses ends it", async () => {
  const root = await mkdtemp(join(tmpdir(), "kiln-mkdir-"));
  try {
    const path = join(root, "a/b/c");
    await makeDirectories(path, 0o700);
    await makeDirectories(path, 0o700);
    assert.equal((await stat(path)).mode & 0o777, 0o700);
    await assert.rejects(makeDirectories("/proc/kiln/home", 0o700), { code: "ENOENT" });
  } finally {
    await rm(root, { recursive: true });
  }
});
