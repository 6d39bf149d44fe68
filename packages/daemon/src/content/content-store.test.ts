import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { type Digest, isDigest } from "@kiln/protocol";
import { ContentStore } from "./content-store.ts";
import { lease } from "./lease.fixture.ts";

const signal = new AbortController().signal;

const digestOf = (bytes: Uint8Array): Digest => {
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  assert.ok(isDigest(digest));
  return digest;
};

const pieces = async function* (bytes: Uint8Array, pieceBytes = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
};

const collect = async <Item>(items: AsyncIterable<Item>): Promise<Item[]> => {
  const all: Item[] = [];
  for await (const item of items) all.push(item);
  return all;
};

const withStore = async (run: (store: ContentStore, paths: { directory: string; stagingDir: string }) => Promise<void>): Promise<void> => {
  const home = await mkdtemp(join(tmpdir(), "kiln content "));
  const paths = { directory: join(home, "content"), stagingDir: join(home, "staging") };
  try {
    await run(new ContentStore(paths), paths);
    assert.deepEqual(await readdir(paths.stagingDir), [], "staging is empty");
  } finally {
    await rm(home, { recursive: true });
  }
};

suite("content store", () => {
  test("what was taken in is there, whole, read-only, under its digest", () =>
    withStore(async (store) => {
      const bytes = randomBytes(12_345);
      const digest = digestOf(bytes);
      assert.equal(await store.has(digest), false);
      assert.deepEqual(await store.ingest(pieces(bytes), { expected: { digest, size: bytes.length }, signal }), { digest, size: 12_345 });
      assert.deepEqual(Buffer.from(await store.read(digest, { limitBytes: 20_000, signal })), bytes);
      assert.deepEqual(await readFile(store.path(digest)), bytes);
      assert.equal((await stat(store.path(digest))).mode & 0o777, 0o444);
      assert.deepEqual(await collect(store.list()), [{ digest, size: 12_345 }]);
      assert.equal(await store.verify(digest, { signal }), true);
      assert.equal(await store.remove(digest), true);
      assert.equal(await store.remove(digest), false);
      await assert.rejects(store.open(digest), { code: "IMAGE_CONTENT_MISSING" });
    }));

  test("I7 what is sent again takes the place of what a disk has damaged, and of nothing that is whole", () =>
    withStore(async (store) => {
      const bytes = randomBytes(12_345);
      const expected = { digest: digestOf(bytes), size: bytes.length };
      const path = store.path(expected.digest);
      const sends = [
        () => store.ingest(pieces(bytes), { expected, signal }),
        () => store.ingest(pieces(bytes), { expected: { ...expected, size: null }, signal }),
        () => store.ingestUnnamed(pieces(bytes), { lease, signal }),
      ];
      await store.ingest(pieces(bytes), { expected, signal });
      for (const send of sends) {
        const { ino } = await stat(path);
        assert.deepEqual(await send(), { digest: expected.digest, size: 12_345 });
        assert.equal((await stat(path)).ino, ino, "it was whole");
        for (const damaged of [Buffer.from(bytes).fill(0, 7, 8 + 7), bytes.subarray(1)]) {
          await chmod(path, 0o644);
          await writeFile(path, damaged);
          await send();
          assert.deepEqual(await readFile(path), bytes);
          assert.equal((await stat(path)).mode & 0o777, 0o444);
        }
      }
    }));

  test("I15 other bytes, too few and too many are refused and leave nothing", () =>
    withStore(async (store) => {
      const bytes = randomBytes(5000);
      const digest = digestOf(bytes);
      const ingest = (source: Uint8Array, size: number | null) => store.ingest(pieces(source), { expected: { digest, size }, signal });
      await assert.rejects(ingest(randomBytes(5000), 5000), { code: "CONTENT_DIGEST_MISMATCH" });
      await assert.rejects(ingest(randomBytes(5000), null), { code: "CONTENT_DIGEST_MISMATCH" });
      await assert.rejects(ingest(bytes.subarray(1), 5000), { code: "CONTENT_SIZE_MISMATCH" });
      await assert.rejects(ingest(Buffer.concat([bytes, bytes]), 5000), { code: "CONTENT_SIZE_MISMATCH" });
      assert.deepEqual(await collect(store.list()), []);
    }));

  test("I15 a source that breaks off and a caller that leaves leave nothing", () =>
    withStore(async (store) => {
      const bytes = randomBytes(5000);
      const expected = { digest: digestOf(bytes), size: 5000 };
      const broken = async function* (): AsyncGenerator<Uint8Array> {
        yield bytes.subarray(0, 100);
        throw new Error("connection reset");
      };
      await assert.rejects(store.ingest(broken(), { expected, signal }), { message: "connection reset" });
      const abort = new AbortController();
      let returned = false;
      const left = async function* (): AsyncGenerator<Uint8Array> {
        try {
          yield bytes.subarray(0, 100);
          abort.abort(new Error("left"));
          yield bytes.subarray(100);
        } finally {
          returned = true;
        }
      };
      await assert.rejects(store.ingest(left(), { expected, signal: abort.signal }), { message: "left" });
      assert.equal(returned, true, "the source was let go");
      assert.equal(await store.has(expected.digest), false);
    }));

  test("I1 many at once of one digest all succeed, and one source of them that lies fails alone", () =>
    withStore(async (store) => {
      const bytes = randomBytes(50_000);
      const expected = { digest: digestOf(bytes), size: bytes.length };
      const start = Promise.withResolvers<void>();
      let inside = 0;
      const held = async function* (content: Uint8Array): AsyncGenerator<Uint8Array> {
        inside += 1;
        if (inside === 9) start.resolve();
        await start.promise;
        yield* pieces(content);
      };
      const good = Array.from({ length: 8 }, () => store.ingest(held(bytes), { expected, signal }));
      const liar = assert.rejects(store.ingest(held(randomBytes(50_000)), { expected, signal }), { code: "CONTENT_DIGEST_MISMATCH" });
      for (const info of await Promise.all(good)) assert.deepEqual(info, { digest: expected.digest, size: 50_000 });
      await liar;
      assert.equal(await store.verify(expected.digest, { signal }), true);
    }));

  test("content without a known digest gets its name from its bytes", () =>
    withStore(async (store) => {
      const bytes = randomBytes(3000);
      const both = await Promise.all([
        store.ingestUnnamed(pieces(bytes), { lease, signal }),
        store.ingestUnnamed(pieces(bytes), { lease, signal }),
      ]);
      for (const info of both) assert.deepEqual(info, { digest: digestOf(bytes), size: 3000 });
      assert.equal((await collect(store.list())).length, 1);
    }));

  test("I7 a blob that was cut off is noticed and replaced when it is sent again", () =>
    withStore(async (store) => {
      const bytes = randomBytes(3000);
      const { digest } = await store.ingestUnnamed(pieces(bytes), { lease, signal });
      await chmod(store.path(digest), 0o644);
      await writeFile(store.path(digest), bytes.subarray(0, 10));
      assert.equal(await store.verify(digest, { signal }), false);
      await store.ingest(pieces(bytes), { expected: { digest, size: 3000 }, signal });
      assert.equal(await store.verify(digest, { signal }), true);
    }));

  test("an open blob can be read to its end while it is removed, and names that are no digests are not listed", () =>
    withStore(async (store, { directory }) => {
      const bytes = randomBytes(3_000_000);
      const { digest } = await store.ingestUnnamed(pieces(bytes, 65_536), { lease, signal });
      await using content = await store.open(digest);
      await store.remove(digest);
      assert.deepEqual(Buffer.concat(await collect(content.stream({ signal }))), bytes);
      await mkdir(join(directory, "sha256", "lost+found"));
      assert.deepEqual(await collect(store.list()), []);
    }));

  test("a document over its limit is not read", () =>
    withStore(async (store) => {
      const { digest } = await store.ingestUnnamed(pieces(randomBytes(101)), { lease, signal });
      await assert.rejects(store.read(digest, { limitBytes: 100, signal }), { code: "IMAGE_INVALID" });
    }));
});
