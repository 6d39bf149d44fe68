import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { fileFingerprint } from "@kiln/std/node";
import { KnownFiles } from "./known-files.ts";

const SIZE = 8 * 2 ** 20;
const BYTES = Buffer.alloc(SIZE, "kiln");
const SHA256 = createHash("sha256").update(BYTES).digest("hex");
const OTHER = "0".repeat(64);
const { signal } = new AbortController();

/** Bytes that this process has read from files and pipes, as the kernel counts them. */
const bytesRead = async (): Promise<number> => Number(/^rchar: (\d+)$/m.exec(await readFile("/proc/self/io", "utf8"))?.[1]);

suite("known files", () => {
  let [directory, path] = ["", ""];
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "kiln-known-"));
    path = join(directory, "file");
    await writeFile(path, BYTES);
  });
  after(() => rm(directory, { recursive: true }));
  const known = async (sha256: string) => ({ path, size: SIZE, sha256, fingerprint: await fileFingerprint(path) });

  test("I7 a file that looks as it was recorded is not read; one that looks different is", async () => {
    const files = new KnownFiles();
    const other = await known(OTHER);
    assert.equal(await files.isWhole(other, { signal }), true, "nobody has looked at its bytes");
    await utimes(path, 1, 1);
    assert.equal(await files.isWhole(other, { signal }), false, "somebody has");
  });

  test("I7 what was read once and found right is not read again until it looks different", async () => {
    const files = new KnownFiles();
    const right = { ...(await known(SHA256)), fingerprint: null };
    assert.equal(await files.isWhole(right, { signal }), true);
    const before = await bytesRead();
    assert.equal(await files.isWhole(right, { signal }), true);
    assert.ok((await bytesRead()) - before < SIZE);
    assert.equal(await files.isWhole({ ...right, sha256: OTHER }, { signal }), false, "right for that hash only");
    const { mtime } = await stat(path);
    await writeFile(path, BYTES.toReversed());
    await utimes(path, mtime, mtime);
    assert.equal(await files.isWhole(right, { signal }), false, "the same size and time, other bytes");
    await writeFile(path, BYTES);
    assert.equal(await files.isWhole(right, { signal }), true);
    await truncate(path, 100);
    assert.equal(await files.isWhole(right, { signal }), false, "short");
    await rm(path);
    assert.equal(await files.isWhole(right, { signal }), false, "gone");
    await writeFile(path, BYTES);
  });

  test("I11 a file is read once for all who ask at that time, and who leaves does not stop it for the others", async () => {
    const files = new KnownFiles();
    const right = { ...(await known(SHA256)), fingerprint: null };
    const leaving = new AbortController();
    const before = await bytesRead();
    const answers = Array.from({ length: 20 }, () => files.isWhole(right, { signal }));
    const left = files.isWhole(right, { signal: leaving.signal });
    setImmediate(() => leaving.abort(new Error("left")));
    await assert.rejects(left, { message: "left" });
    assert.deepEqual(new Set(await Promise.all(answers)), new Set([true]));
    const read = (await bytesRead()) - before;
    assert.ok(read >= SIZE && read < 2 * SIZE, `${read} bytes for a file of ${SIZE}`);
  });
});
