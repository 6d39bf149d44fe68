import assert from "node:assert/strict";
import { mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { FileSink, SinkFailure } from "./file-sink.ts";

const BYTES = 1 << 16;

const withScratch = async (use: (directory: string) => Promise<void>): Promise<void> => {
  const directory = await mkdtemp(join(tmpdir(), "kiln-sink-"));
  try {
    await use(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
};

test("buffers that are handed over all get to their places, however many are on their way at once", () =>
  withScratch(async (directory) => {
    await using file = await open(join(directory, "image"), "w+");
    const sink = new FileSink(file.fd, { directory, reserveBytes: 0 });
    let buffer = Buffer.alloc(BYTES);
    const seen = new Set([buffer]);
    for (let number = 0; number < 20; number += 1) {
      buffer.fill(number + 1);
      buffer = sink.exchange(number * 2 * BYTES, buffer, BYTES);
      seen.add(buffer);
      if (number % 7 === 6) await sink.settled();
    }
    await sink.settled();
    sink.finish(40 * BYTES);
    const written = await readFile(join(directory, "image"));
    for (let number = 0; number < 20; number += 1) {
      const at = number * 2 * BYTES;
      assert.ok(written.subarray(at, at + BYTES).every((byte) => byte === number + 1));
      assert.ok(written.subarray(at + BYTES, at + 2 * BYTES).every((byte) => byte === 0));
    }
    assert.ok(seen.size <= 4, `${seen.size} buffers were made`);
  }));

test("what another thread could not write fails whoever writes next, and the end", () =>
  withScratch(async (directory) => {
    await using file = await open(join(directory, "image"), "w+");
    await using reader = await open(join(directory, "image"), "r");
    const sink = new FileSink(reader.fd, { directory, reserveBytes: 0 });
    sink.exchange(0, Buffer.alloc(BYTES), BYTES);
    await sink.settled();
    assert.throws(() => sink.write(0, Buffer.alloc(1)), SinkFailure);
    assert.throws(() => sink.finish(BYTES), SinkFailure);
    assert.equal((await file.stat()).size, 0);
  }));
