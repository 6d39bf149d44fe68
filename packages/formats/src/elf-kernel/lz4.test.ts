import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { suite, test } from "node:test";
import fc from "fast-check";
import { KernelFormatError } from "./errors.ts";
import { unpackLz4Legacy } from "./lz4.ts";

const MAGIC = [0x02, 0x21, 0x4c, 0x18];

/** The reference implementation, where the machine has it. */
const pack = (bytes: Uint8Array, level = 9): Buffer => execFileSync("lz4", [`-${level}`, "-l", "-c"], { input: bytes, maxBuffer: 1 << 28 });
const hasLz4 = (() => {
  try {
    pack(Buffer.from("probe"));
    return true;
  } catch {
    return false;
  }
})();

const frame = (...blocks: readonly (readonly number[])[]): Uint8Array =>
  Uint8Array.from([...MAGIC, ...blocks.flatMap((block) => [block.length & 255, block.length >> 8, 0, 0, ...block])]);

suite("LZ4 legacy frames", () => {
  test("literals, a match, an overlapping match and a long one are unpacked", () => {
    assert.equal(Buffer.from(unpackLz4Legacy(frame([0x50, ...Buffer.from("hello")]), 5)).toString(), "hello");
    // "abcd", then 8 bytes from 4 back, then "!"
    const match = [0x44, ...Buffer.from("abcd"), 4, 0, 0x10, ...Buffer.from("!")];
    assert.equal(Buffer.from(unpackLz4Legacy(frame(match), 13)).toString(), "abcdabcdabcd!");
    // one byte, then 19 + 255 + 1 of it from 1 back
    const long = [0x1f, 0x61, 1, 0, 255, 1, 0x10, 0x62];
    assert.equal(Buffer.from(unpackLz4Legacy(frame(long), 277)).toString(), `${"a".repeat(276)}b`);
  });

  test("what the reference packs comes back, block after block", { skip: hasLz4 ? false : "lz4 is not installed" }, () => {
    const text = Buffer.from(Array.from({ length: 900_000 }, (_, n) => `line ${n % 5000} of ${n}\n`).join(""));
    for (const bytes of [Buffer.alloc(0), Buffer.from("x"), randomBytes(100_000), Buffer.alloc(20_000_000), text]) {
      for (const level of [1, 9])
        assert.ok(bytes.equals(unpackLz4Legacy(pack(bytes, level), bytes.length)), `${bytes.length} bytes at ${level}`);
    }
  });

  test("lies about lengths, distances and sizes are typed errors", () => {
    const cases: readonly (readonly [string, Uint8Array, number])[] = [
      ["no frame", Uint8Array.from([1, 2, 3, 4]), 0],
      ["cut off block", frame([0x50, 1, 2]).subarray(0, 9), 5],
      ["literals beyond the block", frame([0xf0, 200, 1]), 300],
      ["match before the start", frame([0x14, 0x61, 2, 0, 0x10, 0x62]), 10],
      ["distance of nothing", frame([0x14, 0x61, 0, 0, 0x10, 0x62]), 10],
      ["match into the block before", frame([0x10, 0x61], [0x14, 0x62, 2, 0, 0x10, 0x63]), 11],
      ["more than was said", frame([0x50, ...Buffer.from("hello")]), 4],
      ["less than was said", frame([0x50, ...Buffer.from("hello")]), 6],
      ["a length without end", frame([0xf0, 255, 255, 255]), 1 << 20],
      ["bytes after the last block", Uint8Array.from([...frame([0x10, 0x61]), 1, 2]), 1],
    ];
    for (const [name, bytes, size] of cases) assert.throws(() => unpackLz4Legacy(bytes, size), KernelFormatError, name);
  });

  test("no bytes make it do anything but return or throw its own error", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat({ max: 1000 }), (bytes, size) => {
        try {
          assert.equal(unpackLz4Legacy(frame([...bytes]), size).length, size);
        } catch (error) {
          assert.ok(error instanceof KernelFormatError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
