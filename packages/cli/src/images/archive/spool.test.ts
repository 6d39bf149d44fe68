import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { constants, gzipSync, zstdCompressSync } from "node:zlib";
import { KilnError, type ErrorCode } from "@kiln/protocol/errors";
import type { Compression } from "./compression.ts";
import { spool, type Spooling } from "./spool.ts";

const signal = new AbortController().signal;
const content = Buffer.from(Array.from({ length: 200_000 }, (_, index) => `line ${index}\n`).join(""));

let directory = "";
before(async () => {
  directory = await mkdtemp(join(tmpdir(), "kiln-spool-"));
});
after(async () => {
  assert.deepEqual(await readdir(directory), [], "an unpacked file has no name");
  await rm(directory, { recursive: true });
});

async function* pieces(bytes: Uint8Array, pieceBytes = 70_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

const spooling = (more: Partial<Spooling> & { readonly compression: Compression }): Spooling => ({ name: "x", directory, signal, ...more });

const has = (code: ErrorCode, words: RegExp) => (error: unknown) => {
  assert(error instanceof KilnError && error.code === code, String(error));
  assert.match(error.message, words);
  return true;
};

const packed: readonly [Compression, () => Buffer][] = [
  ["none", () => content],
  ["gzip", () => gzipSync(content)],
  // with a checksum, as the tool of that name writes it
  ["zstd", () => zstdCompressSync(content, { params: { [constants.ZSTD_c_checksumFlag]: 1 } })],
  ["xz", () => execFileSync("xz", ["-c"], { input: content })],
];

describe("what is packed is unpacked into a file without a name", () => {
  for (const [compression, pack] of packed) {
    test(compression, async () => {
      await using file = await spool(pieces(pack()), spooling({ compression }));
      assert.equal(file.sizeBytes, content.length);
      assert((await file.read(0, content.length)).equals(content));
      assert.equal((await file.read(content.length - 5, 100)).length, 5);
      assert.equal((await file.read(content.length + 5, 100)).length, 0);
      assert.deepEqual(await readdir(directory), []);
    });
  }
  test("two packed streams in a row are one, as their tools have it", async () => {
    for (const [compression, pack] of packed) {
      await using file = await spool(pieces(Buffer.concat([pack(), pack()])), spooling({ compression }));
      assert.equal(file.sizeBytes, 2 * content.length, compression);
    }
  });
});

describe("what goes wrong", () => {
  for (const [compression, pack] of packed.slice(1)) {
    test(`${compression} that is cut off or damaged is IMAGE_INVALID`, async () => {
      const bytes = pack();
      await assert.rejects(
        spool(pieces(bytes.subarray(0, bytes.length - 20)), spooling({ compression })),
        has("IMAGE_INVALID", /damaged or cut off/),
      );
      await assert.rejects(spool(pieces(bytes.subarray(0, 40)), spooling({ compression })), has("IMAGE_INVALID", /damaged or cut off/));
      const damaged = Buffer.from(bytes).fill(0xaa, 100, 200);
      await assert.rejects(spool(pieces(damaged), spooling({ compression })), has("IMAGE_INVALID", /damaged or cut off/));
    });
    test(`${compression} without room is DISK_FULL, and ends`, async () => {
      const options = spooling({ compression, reserveBytes: Number.MAX_SAFE_INTEGER });
      await assert.rejects(spool(pieces(pack()), options), has("DISK_FULL", /has no room to unpack it/));
    });
    test(`${compression} that never ends can be interrupted`, async () => {
      const controller = new AbortController();
      const reason = new KilnError("CANCELLED", "interrupted");
      async function* endless(): AsyncGenerator<Uint8Array> {
        yield pack().subarray(0, 100);
        setTimeout(() => controller.abort(reason), 20);
        await new Promise((resolve) => controller.signal.addEventListener("abort", resolve));
      }
      await assert.rejects(spool(endless(), spooling({ compression, signal: controller.signal })), reason);
    });
    test(`${compression} of a source that fails is that failure`, async () => {
      const failure = new KilnError("IMAGE_INVALID", "it became shorter");
      async function* failing(): AsyncGenerator<Uint8Array> {
        yield pack().subarray(0, 100);
        throw failure;
      }
      await assert.rejects(spool(failing(), spooling({ compression })), failure);
    });
  }
  test("a bomb ends where the room ends", async () => {
    const bomb = gzipSync(Buffer.alloc(100 * 2 ** 20));
    let written = 0;
    const options = spooling({ compression: "gzip", onProgress: (bytes) => (written = bytes), reserveBytes: Number.MAX_SAFE_INTEGER });
    await assert.rejects(spool(pieces(bomb), options), has("DISK_FULL", /no room/));
    assert.equal(written, 0);
  });
  test("nothing is IMAGE_INVALID", () =>
    assert.rejects(spool(pieces(new Uint8Array()), spooling({ compression: "none" })), has("IMAGE_INVALID", /it is empty/)));
  test("bzip2 is not understood", () =>
    assert.rejects(spool(pieces(Buffer.from("BZh9")), spooling({ compression: "bzip2" })), has("IMAGE_INVALID", /bzip2/)));
  test("a directory that takes no file is PERMISSION_DENIED with the way out", async () => {
    const options = spooling({ compression: "none", directory: join(directory, "nowhere") });
    await assert.rejects(
      spool(pieces(content), options),
      (error) => has("PERMISSION_DENIED", /no temporary file/)(error) && /TMPDIR/.test((error as KilnError).hint),
    );
  });
  test("a host without xz is told what to install", async () => {
    const program = join(directory, "spool.mjs");
    const script = `
      import { spool } from ${JSON.stringify(new URL("spool.ts", import.meta.url).href)};
      const source = (async function* () { yield Buffer.from("fd377a585a0000", "hex"); })();
      const options = { name: "x", compression: "xz", directory: ${JSON.stringify(directory)}, signal: new AbortController().signal };
      await spool(source, options).catch((error) => console.log(error.code, error.hint));
    `;
    await writeFile(program, script);
    const stdout = execFileSync(process.execPath, [program], { env: { PATH: "/nonexistent" }, encoding: "utf8" });
    await rm(program);
    assert.match(stdout, /^HOST_TOOL_MISSING .*xz-utils/);
  });
});
