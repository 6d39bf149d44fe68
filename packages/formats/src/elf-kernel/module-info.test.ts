import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { loadOrder, type ModuleLinks, readModuleInfo } from "./module-info.ts";

/** An ELF file with .shstrtab and .modinfo. */
const module = (modinfo: string): Uint8Array => {
  const names = Buffer.from("\0.shstrtab\0.modinfo\0");
  const info = Buffer.from(modinfo, "latin1");
  const tableAt = 64 + names.length + info.length;
  const bytes = new Uint8Array(tableAt + 3 * 64);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setBigUint64(40, BigInt(tableAt), true);
  view.setUint16(58, 64, true);
  view.setUint16(60, 3, true);
  view.setUint16(62, 1, true);
  bytes.set(names, 64);
  bytes.set(info, 64 + names.length);
  const section = (index: number, nameAt: number, range: readonly [number, number]): void => {
    view.setUint32(tableAt + index * 64, nameAt, true);
    view.setBigUint64(tableAt + index * 64 + 24, BigInt(range[0]), true);
    view.setBigUint64(tableAt + index * 64 + 32, BigInt(range[1]), true);
  };
  section(1, 1, [64, names.length]);
  section(2, 11, [64 + names.length, info.length]);
  return bytes;
};

const links = (depends: readonly string[], softDependsBefore: readonly string[] = []): ModuleLinks => ({ depends, softDependsBefore });

suite("kernel modules", () => {
  test("a module says its name, what it needs and what it is for", () => {
    const info = readModuleInfo(
      module("license=GPL\0alias=pci:v1AF4\0alias=a=b\0softdep=pre: crc32c-intel post: z\0depends=virtio-ring,virtio\0name=virtio-net\0"),
    );
    assert.deepEqual(info, {
      name: "virtio_net",
      depends: ["virtio_ring", "virtio"],
      softDependsBefore: ["crc32c_intel"],
      softDependsAfter: ["z"],
      aliases: ["pci:v1AF4", "a=b"],
    });
    assert.throws(() => readModuleInfo(module("depends=\0")), { name: "KernelFormatError" });
    assert.throws(() => readModuleInfo(new Uint8Array(100)), { name: "KernelFormatError" });
  });

  test("each is loaded after what it needs, once, and otherwise in the order asked for", () => {
    const modules = new Map([
      ["ring", links([])],
      ["bus", links(["ring"])],
      ["disk", links(["bus", "ring"], ["built-in", "crc"])],
      ["crc", links([])],
      ["net", links(["bus"])],
    ]);
    assert.deepEqual(loadOrder(["net", "disk"], modules), ["ring", "bus", "net", "crc", "disk"]);
    assert.deepEqual(loadOrder([], modules), []);
  });

  test("a module that is missing or needs itself is named", () => {
    const modules = new Map([
      ["a", links(["b"])],
      ["b", links(["a"])],
      ["c", links(["gone"])],
    ]);
    assert.throws(() => loadOrder(["a"], modules), { message: /a, b, a/ });
    assert.throws(() => loadOrder(["c"], modules), { message: /gone, which c needs/ });
  });
});
