import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { BLOCK_BYTES } from "../disk/constants.ts";
import { BlockStream } from "./block-stream.ts";
import type { FileContent } from "./block-stream.ts";

const FIRST_BLOCK = 3;
const DISK_BYTES = 16 << 20;

const readBack = (disk: Buffer, content: FileContent): Buffer => {
  const out = Buffer.alloc(Math.ceil(content.sizeBytes / BLOCK_BYTES) * BLOCK_BYTES);
  for (const { logical, physical, count } of content.extents) {
    disk.copy(out, logical * BLOCK_BYTES, physical * BLOCK_BYTES, (physical + count) * BLOCK_BYTES);
  }
  return out.subarray(0, content.sizeBytes);
};

const length = fc.oneof(fc.nat({ max: 300 }), fc.constantFrom(4095, 4096, 4097, 8192, 65_536, 262_144, 300_000), fc.nat({ max: 600_000 }));
/** Bytes of one value (0: zeros that are data), or a hole. */
const part = fc.record({ length, value: fc.constantFrom(0, 1, 2), hole: fc.boolean() });

test("files read back from where they were put, whatever pieces they came in, and zeros take no room", () => {
  fc.assert(
    fc.property(fc.array(fc.array(part, { maxLength: 5 }), { maxLength: 6 }), (files) => {
      const disk = Buffer.alloc(DISK_BYTES);
      const stream = new BlockStream(
        { write: (offset, bytes) => disk.set(bytes, offset) },
        { firstBlock: FIRST_BLOCK, maxBlocks: DISK_BYTES / BLOCK_BYTES },
      );
      const written = files.map((parts) => {
        const pieces = parts.map((one) => Buffer.alloc(one.length, one.hole ? 0 : one.value));
        for (const [index, one] of parts.entries()) {
          if (one.hole) stream.hole(one.length);
          else stream.append(pieces[index] ?? Buffer.alloc(0));
        }
        return { expected: Buffer.concat(pieces), content: stream.endFile() };
      });
      stream.flush();
      let blocks = 0;
      for (const { expected, content } of written) {
        assert.ok(readBack(disk, content).equals(expected));
        const padded = Buffer.concat([expected, Buffer.alloc(BLOCK_BYTES)]);
        for (let at = 0; at < expected.length; at += BLOCK_BYTES)
          blocks += padded.subarray(at, at + BLOCK_BYTES).some((byte) => byte !== 0) ? 1 : 0;
      }
      assert.equal(stream.nextBlock, FIRST_BLOCK + blocks);
    }),
    { numRuns: 60 },
  );
});

test("a run longer than an extent can be gets several", () => {
  const stream = new BlockStream({ write: () => undefined }, { firstBlock: 0, maxBlocks: 2 ** 20 });
  const megabyte = Buffer.alloc(1 << 20, 1);
  for (let index = 0; index < 129; index += 1) stream.append(megabyte);
  assert.deepEqual(stream.endFile().extents, [
    { logical: 0, physical: 0, count: 32_768 },
    { logical: 32_768, physical: 32_768, count: 256 },
  ]);
});

test("a stream that is full throws instead of writing behind its end", () => {
  const stream = new BlockStream(
    { write: (offset, bytes) => assert.ok(offset + bytes.length <= 100 * BLOCK_BYTES) },
    { firstBlock: 1, maxBlocks: 100 },
  );
  assert.throws(() => stream.append(Buffer.alloc(1 << 20, 1)), { name: "Ext4Error", code: "TOO_LARGE" });
});
