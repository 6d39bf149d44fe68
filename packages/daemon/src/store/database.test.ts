import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Database } from "./database.ts";
import { SqliteSagaLog } from "./saga-log.ts";

test("what was deleted from the database is in none of its files once it is closed: an environment holds secrets", async () => {
  const directory = await mkdtemp(join(tmpdir(), "kiln-database-"));
  const isThere = async (text: string): Promise<boolean> => {
    const files = await Promise.all((await readdir(directory)).map((name) => readFile(join(directory, name))));
    return files.some((bytes) => bytes.includes(text));
  };
  try {
    const secrets = ["short-secret", `long-secret ${"x".repeat(100_000)}`];
    {
      using database = new Database(join(directory, "kiln.db"));
      const sagas = new SqliteSagaLog<{ operation: string; input?: string }>(database, { viewOf: () => null });
      for (const [index, input] of secrets.entries()) sagas.put({ operation: `op${index}`, input });
      assert.ok(await isThere("short-secret"), "the files are looked at");
      for (const index of secrets.keys()) {
        // as a step's end does, then the operation's
        sagas.put({ operation: `op${index}` });
        sagas.remove(`op${index}`);
      }
    }
    assert.equal(await isThere("short-secret"), false);
    assert.equal(await isThere("long-secret"), false);
    assert.equal(await isThere("xxxxxxxx"), false);
  } finally {
    await rm(directory, { recursive: true });
  }
});
