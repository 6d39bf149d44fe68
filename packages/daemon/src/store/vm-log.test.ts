import assert from "node:assert/strict";
import { appendFile, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { VmId } from "@kiln/protocol";
import type { LogChunk, VmLog } from "../vms/log.port.ts";
import { FileLogs } from "./vm-log.ts";

const never = new AbortController().signal;
const id = "0123456789ab" as VmId;
const directories: string[] = [];

const setUp = async () => {
  const directory = await mkdtemp(join(tmpdir(), "kiln-log-"));
  directories.push(directory);
  return { directory, logs: new FileLogs(() => directory) };
};

after(async () => {
  for (const directory of directories) await rm(directory, { recursive: true });
});

const chunk = (offset: number, text: string): LogChunk => ({ stream: "stdout", offset, bytes: Buffer.from(text) });
const textOf = async (log: VmLog, options: { follow: boolean; holds?: boolean; epochOnly?: boolean }): Promise<string> => {
  let text = "";
  for await (const one of log.read({ holds: false, epochOnly: false, signal: never, ...options }))
    text += Buffer.from(one.bytes).toString();
  return text;
};

test("a follower sees what was there and what comes, and ends with the log", async () => {
  const { logs } = await setUp();
  const log = await logs.begin(id);
  await log.append(chunk(0, "one "));
  const followed = textOf(log, { follow: true });
  await log.append(chunk(4, "two"));
  await log.close();
  assert.equal(await followed, "one two");
});

test("bytes that come twice are kept once", async () => {
  const { logs } = await setUp();
  const log = await logs.begin(id);
  await log.append(chunk(0, "abc"));
  await log.append(chunk(0, "abc"));
  await log.append(chunk(1, "bcd"));
  assert.equal(await textOf(log, { follow: false }), "abcd");
  await log.close();
});

test("I36 a record cut short by the daemon's death is dropped, and the log goes on at its offset", async () => {
  const { directory, logs } = await setUp();
  const log = await logs.begin(id);
  await log.append(chunk(0, "whole"));
  await log.close();
  await appendFile(join(directory, "log.0"), Buffer.from([0, 5, 0, 0]));
  const again = await logs.open(id);
  assert.ok(again);
  assert.equal(again.ends.stdout, 5);
  await again.append(chunk(5, " again"));
  assert.equal(await textOf(again, { follow: false }), "whole again");
  await again.close();
});

test("a log goes on behind what earlier starts wrote, and an epoch can be read alone", async () => {
  const { logs } = await setUp();
  const first = await logs.begin(id);
  await first.append(chunk(0, "first "));
  await first.close();
  const second = await logs.begin(id);
  await second.append(chunk(0, "second"));
  assert.equal(await textOf(second, { follow: false }), "first second");
  assert.equal(await textOf(second, { follow: false, epochOnly: true }), "second");
  await second.close();
  const adopted = await logs.open(id);
  assert.ok(adopted);
  await adopted.append(chunk(3, "ond, adopted"));
  assert.equal(await textOf(adopted, { follow: false }), "first second, adopted");
  await adopted.close();
});

test("a log is bounded: the oldest goes, and the offset says how much", async () => {
  const { directory, logs } = await setUp();
  const log = await logs.begin(id);
  const part = Buffer.alloc(1 << 20, "x");
  for (let index = 0; index < 50; index += 1) await log.append({ stream: "stdout", offset: index * part.length, bytes: part });
  const offsets: number[] = [];
  for await (const one of log.read({ follow: false, holds: false, epochOnly: false, signal: never })) offsets.push(one.offset);
  assert.ok((offsets[0] ?? 0) > 0);
  assert.equal(offsets.at(-1), 49 * part.length);
  assert.ok((await readdir(directory)).length <= 2);
  await log.close();
});

test("a reader that holds loses nothing, however slow", async () => {
  const { logs } = await setUp();
  const log = await logs.begin(id);
  const part = Buffer.alloc(1 << 20, "x");
  const reader = log.read({ follow: true, holds: true, epochOnly: false, signal: never })[Symbol.asyncIterator]();
  const writing = (async () => {
    for (let index = 0; index < 50; index += 1) await log.append({ stream: "stdout", offset: index * part.length, bytes: part });
    await log.close();
  })();
  let next = 0;
  for (let step = await reader.next(); step.done !== true; step = await reader.next()) {
    assert.equal(step.value.offset, next);
    next += step.value.bytes.length;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await writing;
  assert.equal(next, 50 * part.length);
});

test("I22 when the VM has ended, a reader that stands still holds nobody up", async () => {
  const { logs } = await setUp();
  const log = await logs.begin(id);
  const part = Buffer.alloc(1 << 20, "x");
  await log.append({ stream: "stdout", offset: 0, bytes: part });
  const reader = log.read({ follow: true, holds: true, epochOnly: false, signal: never })[Symbol.asyncIterator]();
  await reader.next();
  const writing = (async () => {
    for (let index = 1; index < 50; index += 1) await log.append({ stream: "stdout", offset: index * part.length, bytes: part });
  })();
  assert.equal(
    await Promise.race([writing.then(() => "written"), new Promise((resolve) => setTimeout(() => resolve("held"), 300))]),
    "held",
  );
  log.letGo();
  await writing;
  await reader.return?.();
  await log.close();
});
