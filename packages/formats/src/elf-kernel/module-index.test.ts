import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { type IndexedModule, indexModules } from "./module-index.ts";
import { type TrieEntry, writeTrie } from "./module-trie.ts";

/** Looks a key up as libkmod does: offsets and flags of the node, its prefix, then a child by letter. */
const lookUp = (index: Uint8Array, key: string): string[] => {
  const view = new DataView(index.buffer, index.byteOffset, index.byteLength);
  const text = (at: number): string => Buffer.from(index.subarray(at, index.indexOf(0, at))).toString();
  assert.deepEqual([view.getUint32(0), view.getUint32(4)], [0xb007f457, 0x00020001]);
  let [node, rest] = [view.getUint32(8), key];
  for (;;) {
    let at = node & 0x0fffffff;
    if (node >>> 31 === 1) {
      const prefix = text(at);
      if (!rest.startsWith(prefix)) return [];
      rest = rest.slice(prefix.length);
      at += prefix.length + 1;
    }
    const letter = rest.charCodeAt(0);
    const childrenAt = at + 2;
    const hasChildren = (node & 0x20000000) !== 0;
    const [first, last] = hasChildren ? [view.getUint8(at), view.getUint8(at + 1)] : [1, 0];
    if (rest !== "") {
      const child = letter >= first && letter <= last ? view.getUint32(childrenAt + 4 * (letter - first)) : 0;
      if (child === 0) return [];
      [node, rest] = [child, rest.slice(1)];
      continue;
    }
    if ((node & 0x40000000) === 0) return [];
    at = hasChildren ? childrenAt + 4 * (last - first + 1) : at;
    const values: string[] = [];
    let valueAt = at + 4;
    for (let left = view.getUint32(at); left > 0; left -= 1) {
      values.push(text(valueAt + 4));
      valueAt += 4 + (values.at(-1)?.length ?? 0) + 1;
    }
    return values;
  }
};

const indexed = (path: string, more: Partial<IndexedModule> = {}): [string, IndexedModule] => {
  const name = path.replace(/^.*\//, "").replace(/\.ko$/, "").replaceAll("-", "_");
  return [name, { name, path, depends: [], softDependsBefore: [], softDependsAfter: [], aliases: [], ...more }];
};

suite("module indexes", () => {
  test("every key is found with its values, and no other", () => {
    const key = fc.string({ unit: fc.constantFrom("a", "b", "-", "*"), minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(fc.uniqueArray(key, { maxLength: 40 }), fc.array(key), (keys, others) => {
        const entries = keys.map((one, priority): TrieEntry => ({ key: one, value: `value of ${one}`, priority }));
        const index = writeTrie(entries);
        for (const one of keys) assert.deepEqual(lookUp(index, one), [`value of ${one}`]);
        for (const other of others.filter((one) => !keys.includes(one))) assert.deepEqual(lookUp(index, other), []);
      }),
    );
  });

  test("of several values of a key the one with the lowest priority comes first", () => {
    const index = writeTrie([
      { key: "k", value: "late", priority: 7 },
      { key: "k", value: "early", priority: 2 },
    ]);
    assert.deepEqual(lookUp(index, "k"), ["early", "late"]);
    assert.throws(() => writeTrie([{ key: "ü", value: "", priority: 0 }]), { name: "KernelFormatError" });
  });

  test("modprobe finds what a module needs, aliases with dashes, and what is built in", () => {
    const modules = new Map([
      indexed("kernel/net.ko", { depends: ["bus"], aliases: ["pci:v1-[a-c]*"], softDependsBefore: ["crc-fast"] }),
      indexed("kernel/bus.ko", { depends: ["my_ring"] }),
      indexed("kernel/my-ring.ko"),
    ]);
    const order = "kernel/my-ring.ko\nkernel/bus.ko\nkernel/net.ko\n";
    const files = indexModules({
      modules,
      order,
      builtin: "kernel/fs/ext4.ko\n",
      builtinModinfo: "ext4.alias=fs-ext4\0ext4.license=GPL\0",
    });
    const text = (name: string): string => Buffer.from(files.get(name) ?? []).toString();
    const find = (name: string, key: string): string[] => lookUp(files.get(name) ?? new Uint8Array(), key);
    assert.equal(
      text("modules.dep"),
      "kernel/my-ring.ko:\nkernel/bus.ko: kernel/my-ring.ko\nkernel/net.ko: kernel/bus.ko kernel/my-ring.ko\n",
    );
    assert.deepEqual(find("modules.dep.bin", "net"), ["kernel/net.ko: kernel/bus.ko kernel/my-ring.ko"]);
    assert.deepEqual(find("modules.alias.bin", "pci:v1_[a-c]*"), ["net"]);
    assert.match(text("modules.softdep"), /^softdep net pre: crc-fast$/m);
    assert.deepEqual([find("modules.builtin.bin", "ext4"), find("modules.builtin.alias.bin", "fs_ext4")], [[""], ["ext4"]]);
  });
});
