import assert from "node:assert/strict";
import { test } from "node:test";
import { CRC_START, crc32c } from "./crc32c.ts";

test("the checksum is CRC-32C, without the final inversion", () => {
  assert.equal(~crc32c(CRC_START, Buffer.from("123456789")) >>> 0, 0xe306_9283);
  assert.equal(~crc32c(CRC_START, Buffer.alloc(32)) >>> 0, 0x8a91_36aa);
});

test("a range continues what came before it", () => {
  const bytes = Buffer.from(Array.from({ length: 100 }, (_, index) => index * 7));
  const whole = crc32c(CRC_START, bytes);
  for (const split of [0, 1, 9, 50, 100]) {
    const first = crc32c(CRC_START, bytes, { start: 0, end: split });
    assert.equal(crc32c(first, bytes, { start: split, end: 100 }), whole);
  }
});
