import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { ElfFile } from "./elf.ts";
import { KernelFormatError } from "./errors.ts";
import { extractVmlinux, findPayload, pvhEntry } from "./vmlinux.ts";

const concat = (...parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts));

const littleEndian = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
};

const bzImage = (payload: Uint8Array, changes: { version?: number; length?: number } = {}): Uint8Array => {
  const setup = new Uint8Array(5 * 512);
  const view = new DataView(setup.buffer);
  setup[0x1f1] = 4;
  view.setUint16(0x1fe, 0xaa55, true);
  setup.set(Buffer.from("HdrS"), 0x202);
  view.setUint16(0x206, changes.version ?? 0x020f, true);
  view.setUint32(0x248, 16, true);
  view.setUint32(0x24c, changes.length ?? payload.length, true);
  return concat(setup, new Uint8Array(16), payload, Buffer.from("what follows"));
};

/** An ELF file with one segment of notes. */
const elf = (notes: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(64 + 56 + notes.length);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setBigUint64(32, 64n, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 1, true);
  view.setUint32(64, 4, true);
  view.setBigUint64(64 + 8, 120n, true);
  view.setBigUint64(64 + 32, BigInt(notes.length), true);
  bytes.set(notes, 120);
  return bytes;
};

const note = (owner: string, type: number, content: Uint8Array): Uint8Array => {
  const name = Buffer.from(`${owner}\0`);
  const pad = (bytes: Uint8Array): Uint8Array => concat(bytes, new Uint8Array((4 - (bytes.length % 4)) % 4));
  return concat(littleEndian(name.length), littleEndian(content.length), littleEndian(type), pad(name), pad(content));
};

const KERNEL = elf(concat(note("GNU", 3, Buffer.from("build id")), note("Xen", 18, littleEndian(0x100_0850))));

suite("bzImage to vmlinux", () => {
  test("gzip and zstd payloads are unpacked, and the PVH entry is found", () => {
    const packed = [gzipSync(KERNEL), concat(zstdCompressSync(KERNEL), littleEndian(KERNEL.length))];
    for (const payload of packed) {
      const vmlinux = extractVmlinux(bzImage(payload));
      assert.deepEqual(Buffer.from(vmlinux), Buffer.from(KERNEL));
      assert.equal(pvhEntry(vmlinux), 0x100_0850);
    }
  });

  test("a kernel without a PVH entry is refused", () => {
    assert.throws(() => pvhEntry(elf(note("Xen", 17, littleEndian(1)))), { name: "KernelFormatError", code: "UNSUPPORTED" });
  });

  test("what is no bzImage, too old, cut off, or packed in another way is a typed error", () => {
    const payload = gzipSync(KERNEL);
    const refused = (image: Uint8Array, code: string): void =>
      assert.throws(() => extractVmlinux(image), { name: "KernelFormatError", code });
    refused(new Uint8Array(), "INVALID");
    refused(KERNEL, "INVALID");
    refused(bzImage(payload, { version: 0x0207 }), "UNSUPPORTED");
    refused(bzImage(payload, { length: 100_000 }), "INVALID");
    refused(bzImage(Buffer.from("\u00fd7zXZ\0 and so on", "latin1")), "UNSUPPORTED");
    refused(bzImage(Buffer.from("no such packing")), "UNSUPPORTED");
    refused(bzImage(concat(payload.subarray(0, 40), littleEndian(1000))), "INVALID");
    refused(bzImage(concat(zstdCompressSync(KERNEL), littleEndian(0xffff_ffff))), "LIMIT");
    // it unpacks to more than it says
    refused(bzImage(concat(zstdCompressSync(new Uint8Array(100_000)), littleEndian(10))), "INVALID");
    assert.equal(findPayload(bzImage(payload)).length, payload.length);
  });

  test("no ELF file makes the reader do anything but answer or throw its own error", () => {
    const bytes = fc.uint8Array({ minLength: 1, maxLength: KERNEL.length });
    fc.assert(
      fc.property(bytes, fc.nat({ max: KERNEL.length - 1 }), (noise, at) => {
        const damaged = KERNEL.slice();
        damaged.set(noise.subarray(0, damaged.length - at), at);
        try {
          const file = new ElfFile(damaged);
          file.notes();
          file.section(".modinfo");
        } catch (error) {
          assert.ok(error instanceof KernelFormatError, String(error));
        }
      }),
      { numRuns: 2000 },
    );
  });
});
