import assert from "node:assert/strict";
import { test } from "node:test";
import type { OperationOutput } from "@kiln/protocol";
import { FakeClock } from "@kiln/std";
import { OPERATION_LIMITS } from "./limits.ts";
import { OutputTail } from "./output-tail.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const options = { signal: new AbortController().signal };

const follow = () => {
  const clock = new FakeClock();
  const told: OperationOutput[] = [];
  return { clock, told, tail: new OutputTail(clock, (output) => told.push(output)) };
};

test("lines are told together, some times a second, whatever pieces they came in", async () => {
  const { clock, told, tail } = follow();
  const euro = bytes("€\n");
  tail.append("stdout", bytes("one\ntw"), options);
  tail.append("stderr", bytes("error\n"), options);
  tail.append("stdout", bytes("o\r\n"), options);
  tail.append("stdout", euro.subarray(0, 2), options);
  tail.append("stdout", euro.subarray(2), options);
  assert.deepEqual(told, []);
  clock.advance(OPERATION_LIMITS.outputMs);
  await new Promise(setImmediate);
  assert.deepEqual(told, [{ lines: 4, tail: ["one", "error", "two", "€"] }]);
});

test("a command's last line needs no end, and the next command's is another", () => {
  const { told, tail } = follow();
  tail.append("stdout", bytes("no end"), options);
  tail.end();
  tail.append("stdout", bytes("another"), options);
  tail.end();
  assert.deepEqual(told.at(-1), { lines: 2, tail: ["no end", "another"] });
});

test("a flood keeps the newest lines and counts all, and neither a line nor its beginning grows without end", () => {
  const { told, tail } = follow();
  const { outputLines, outputLineLength } = OPERATION_LIMITS;
  for (let n = 0; n < 10; n += 1) tail.append("stdout", bytes("x".repeat(100_000)), options);
  tail.append("stdout", bytes(`\n${Array.from({ length: 5_000 }, (_, n) => `${n}\n`).join("")}`), options);
  tail.end();
  assert.equal(told.at(-1)?.lines, 5_001);
  assert.deepEqual(
    told.at(-1)?.tail,
    Array.from({ length: outputLines }, (_, n) => String(5_000 - outputLines + n)),
  );
  tail.append("stderr", bytes(`${"y".repeat(100_000)}\n`), options);
  tail.end();
  assert.equal(told.at(-1)?.tail.at(-1)?.length, outputLineLength);
});
