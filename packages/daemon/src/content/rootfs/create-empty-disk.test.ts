import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createEmptyDisk } from "./index.ts";

const UUID = "0d9e8f7a-1b2c-4d3e-8f90-a1b2c3d4e5f6";
const GIB = 2 ** 30;
const never = new AbortController().signal;

const scratchDirectory = async (): Promise<AsyncDisposable & { readonly path: string }> => {
  const path = await mkdtemp(join(tmpdir(), "kiln disk "));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
};

test("a disk of 8 GiB is clean, sparse, and has its UUID and label", async () => {
  await using scratch = await scratchDirectory();
  const path = join(scratch.path, "disk");
  await createEmptyDisk({ path, sizeBytes: 8 * GIB, uuid: UUID, label: "writable" }, { signal: never });
  assert.equal(statSync(path).size, 8 * GIB);
  assert.ok(statSync(path).blocks * 512 < 2 ** 20);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(spawnSync("e2fsck", ["-fn", path]).status, 0);
  const { stdout } = spawnSync("dumpe2fs", ["-h", path], { encoding: "utf8" });
  assert.match(stdout, new RegExp(`UUID: +${UUID}`));
  assert.match(stdout, /volume name: +writable/);
});

test("a disk that cannot be, or is not wanted any more, leaves no file", async () => {
  await using scratch = await scratchDirectory();
  const path = join(scratch.path, "disk");
  await assert.rejects(createEmptyDisk({ path, sizeBytes: 4096, uuid: UUID }, { signal: never }), { code: "REQUEST_INVALID" });
  await assert.rejects(createEmptyDisk({ path, sizeBytes: GIB, uuid: UUID, label: "l".repeat(17) }, { signal: never }), {
    code: "REQUEST_INVALID",
  });
  await assert.rejects(createEmptyDisk({ path, sizeBytes: GIB, uuid: UUID }, { signal: AbortSignal.abort() }), { code: "CANCELLED" });
  assert.ok(!existsSync(path));
});

test("a host without room for one more file is DISK_FULL", { skip: process.getuid?.() === 0 ? false : "needs root" }, async () => {
  await using scratch = await scratchDirectory();
  const full = join(scratch.path, "full");
  await mkdir(full);
  execFileSync("mount", ["-t", "tmpfs", "-o", "nr_inodes=1", "tmpfs", full]);
  try {
    const creating = createEmptyDisk({ path: join(full, "disk"), sizeBytes: GIB, uuid: UUID }, { signal: never });
    await assert.rejects(creating, { name: "KilnError", code: "DISK_FULL" });
  } finally {
    execFileSync("umount", [full]);
  }
});

test("a file with content is never overwritten", async () => {
  await using scratch = await scratchDirectory();
  const path = join(scratch.path, "disk");
  await writeFile(path, "precious");
  await assert.rejects(createEmptyDisk({ path, sizeBytes: GIB, uuid: UUID }, { signal: never }), { code: "INTERNAL" });
  assert.equal(statSync(path).size, 8);
});
