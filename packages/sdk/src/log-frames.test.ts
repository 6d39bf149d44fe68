import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { KilnError } from "@kiln/protocol/errors";
import { framesOf } from "./log-frames.ts";
import { OutputBuffer } from "./output-buffer.ts";
import { logBody, listOf } from "./testing/index.ts";

const frame = fc.record({
  stream: fc.constantFrom("stdout" as const, "stderr" as const),
  offset: fc.nat(2 ** 40),
  bytes: fc.uint8Array({ maxLength: 64 }),
});

async function* cut(body: Uint8Array, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  let at = 0;
  for (const size of sizes) yield body.subarray(at, (at += size));
  yield body.subarray(at);
}

test("frames are read whole however the network cuts them", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(frame, { maxLength: 8 }), fc.array(fc.nat(40), { maxLength: 20 }), async (frames, sizes) => {
      const read = await listOf(framesOf(cut(logBody(frames), sizes)));
      assert.deepEqual(
        read.map((one) => ({ ...one, bytes: [...one.bytes] })),
        frames.map((one) => ({ ...one, bytes: [...one.bytes] })),
      );
    }),
  );
});

test("a log that ends inside a frame is a broken connection", async () => {
  const body = logBody([{ stream: "stdout", offset: 0, bytes: Buffer.from("abc") }]);
  await assert.rejects(
    listOf(framesOf(cut(body.subarray(0, -1), []))),
    (error) => error instanceof KilnError && error.code === "DAEMON_UNREACHABLE",
  );
});

test("whatever is sent again after a break, each byte is delivered once", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(fc.nat(60), fc.nat(60)), { maxLength: 20 }), async (pieces) => {
      const whole = Uint8Array.from({ length: 100 }, (_, at) => at);
      const buffer = new OutputBuffer(Number.POSITIVE_INFINITY);
      let reached = 0;
      for (const [back, length] of pieces) {
        const from = Math.max(0, reached - back);
        await buffer.push({ stream: "stdout", offset: from, bytes: whole.subarray(from, from + length) });
        reached = Math.max(reached, Math.min(100, from + length));
      }
      buffer.end();
      const out: number[] = [];
      for (let chunk = await buffer.take(); chunk !== null; chunk = await buffer.take()) out.push(...chunk.bytes);
      assert.deepEqual(out, [...whole.subarray(0, reached)]);
    }),
  );
});
