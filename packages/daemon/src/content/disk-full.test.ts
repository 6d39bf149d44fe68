import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { isDigest } from "@kiln/protocol";
import { ContentStore } from "./content-store.ts";
import { CONTENT_LIMITS } from "./limits.ts";
import { lease } from "./lease.fixture.ts";

const isRoot = process.getuid?.() === 0;

test("I15 a full disk is DISK_FULL and leaves nothing", { skip: isRoot ? false : "needs root for a small file system" }, async () => {
  const home = await mkdtemp(join(tmpdir(), "kiln-full-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "kiln-full", home]);
  try {
    const store = new ContentStore({ directory: join(home, "content"), stagingDir: join(home, "staging") });
    const bytes = Buffer.alloc(1_000_000, 7);
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    assert.ok(isDigest(digest));
    const source = async function* (): AsyncGenerator<Uint8Array> {
      yield bytes;
    };
    const { signal } = new AbortController();
    await assert.rejects(store.ingest(source(), { expected: { digest, size: bytes.length }, signal }), { code: "DISK_FULL" });
    await assert.rejects(store.ingestUnnamed(source(), { lease, signal }), { code: "DISK_FULL" });
    assert.equal(await store.has(digest), false);
    assert.deepEqual(await readdir(join(home, "staging")), []);
  } finally {
    execFileSync("umount", [home]);
    await rm(home, { recursive: true });
  }
});

test(
  "I15 content whose size nobody knows stops before it takes the reserve",
  { skip: isRoot ? false : "needs root for a small file system" },
  async () => {
    const home = await mkdtemp(join(tmpdir(), "kiln-full-"));
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=40m", "kiln-full", home]);
    try {
      const store = new ContentStore({ directory: join(home, "content"), stagingDir: join(home, "staging") });
      const least: number[] = [];
      const source = async function* (): AsyncGenerator<Uint8Array> {
        for (let count = 0; count < 100; count += 1) {
          const { bavail, bsize } = await statfs(home);
          least.push(bavail * bsize);
          yield Buffer.alloc(2 ** 20, count + 1);
        }
      };
      await assert.rejects(store.ingestUnnamed(source(), { lease, signal: new AbortController().signal }), { code: "DISK_FULL" });
      const slack = CONTENT_LIMITS.betweenLooksBytes;
      assert.ok(Math.min(...least) >= CONTENT_LIMITS.reserveBytes - slack, `${Math.min(...least)} bytes were left`);
      assert.deepEqual(await readdir(join(home, "staging")), []);
      const zeros = async function* (): AsyncGenerator<Uint8Array> {
        for (let count = 0; count < 100; count += 1) yield Buffer.alloc(2 ** 20);
      };
      assert.equal((await store.ingestUnnamed(zeros(), { lease, signal: new AbortController().signal })).size, 100 * 2 ** 20);
    } finally {
      execFileSync("umount", [home]);
      await rm(home, { recursive: true });
    }
  },
);
