import assert from "node:assert/strict";
import { test } from "node:test";
import type { LogChunk } from "../vms/log.port.ts";
import { findTail } from "./read-log.ts";

async function* chunks(...list: [LogChunk["stream"], number, string][]): AsyncGenerator<LogChunk> {
  for (const [stream, offset, text] of list) yield { stream, offset, bytes: Buffer.from(text) };
}

test("the tail counts the last lines of both streams together", async () => {
  const log = () => chunks(["stdout", 0, "a\nb\n"], ["stderr", 0, "x\n"], ["stdout", 4, "c"]);
  assert.deepEqual(await findTail(log(), 1), { stdout: 4, stderr: 2 });
  assert.deepEqual(await findTail(log(), 2), { stdout: 4, stderr: 0 });
  assert.deepEqual(await findTail(log(), 3), { stdout: 2, stderr: 0 });
  assert.deepEqual(await findTail(log(), 0), { stdout: 5, stderr: 2 });
});

test("a line in several chunks is one line", async () => {
  assert.deepEqual(await findTail(chunks(["stdout", 0, "one\ntw"], ["stdout", 6, "o\n"]), 1), { stdout: 4, stderr: 0 });
});
