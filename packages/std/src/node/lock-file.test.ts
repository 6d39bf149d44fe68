import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { tryLockFile } from "./index.ts";
import { scratchDirectory } from "./scratch.fixture.ts";

const HOLDER = `
  const { tryLockFile } = await import(process.argv[1]);
  const answer = tryLockFile(process.argv[2]) === null ? "refused" : "held";
  globalThis.gc(); // the holder forgets its lock, and keeps it all the same
  await new Promise((resolve) => setTimeout(resolve, 10));
  console.log(answer);
  setInterval(() => {}, 1000);
`;

/** Another process that tries to take the lock and stays. */
async function otherProcess(path: string): Promise<AsyncDisposable & { readonly answer: string }> {
  const child = spawn(process.execPath, ["--expose-gc", "--input-type=module", "-e", HOLDER, import.meta.resolve("./index.ts"), path], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exit = once(child, "exit");
  const said: unknown[] = await once(child.stdout, "data");
  const end = async () => {
    child.kill("SIGKILL");
    await exit;
  };
  return { answer: String(said[0]).trim(), [Symbol.asyncDispose]: end };
}

describe("a lock file", () => {
  it("I39 has one holder in a process, also after a refused second try", async () => {
    await using scratch = await scratchDirectory();
    const path = join(scratch.path, "lock");
    const held = tryLockFile(path);
    assert.ok(held !== null);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(tryLockFile(path), null);
    {
      await using other = await otherProcess(path);
      assert.equal(other.answer, "refused");
    }
    held.release();
    held.release();
    const again = tryLockFile(path);
    assert.ok(again !== null);
    again.release();
  });

  it("I39 is released by the kernel when its holder is killed", async () => {
    await using scratch = await scratchDirectory();
    const path = join(scratch.path, "lock");
    {
      await using other = await otherProcess(path);
      assert.equal(other.answer, "held");
      assert.equal(tryLockFile(path), null);
    }
    const held = tryLockFile(path);
    assert.ok(held !== null);
    held.release();
  });

  it("that is another kind of file, or in no directory, is an error and not 'held'", async () => {
    await using scratch = await scratchDirectory();
    const path = join(scratch.path, "notes");
    writeFileSync(path, "these are notes, not a database: ".repeat(100));
    assert.throws(() => tryLockFile(path), /not a database/);
    assert.throws(() => tryLockFile(join(scratch.path, "missing", "lock")), { code: "ENOENT" });
  });
});
