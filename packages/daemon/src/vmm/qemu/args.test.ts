import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { qemuArguments, type QemuShape } from "./args.ts";
import { decideKvmAccess } from "./kvm-device.ts";
import { parseQemuVersion, readQemuVersion, requireQemuVersion } from "./version.ts";

const shape: QemuShape = {
  ...{ id: "vm-1", accel: "tcg", cpus: 2, network: null, memoryBytes: 512 * 2 ** 20 },
  descriptors: { qmp: 3, agent: 4, hand: null },
  kernel: { vmlinux: 5, initramfs: 6 },
  snapshot: null,
  disks: [
    { slot: "root", descriptor: 7, readOnly: true },
    { slot: "work", descriptor: 8, readOnly: false },
  ],
};

const after = (line: readonly string[], flag: string): readonly string[] =>
  line.flatMap((word, at) => (line[at - 1] === flag ? [word] : []));

describe("QEMU's command line", () => {
  test("names no path of the host besides descriptors", () => {
    const words = qemuArguments(shape).join(" ").split(/[ ,=]/);
    assert.deepEqual(
      words.filter((word) => word.startsWith("/")),
      ["/proc/self/fd/5", "/proc/self/fd/6", "/dev/fdset/2", "/dev/fdset/2", "/dev/fdset/4", "/dev/fdset/4"].filter(
        (path, at, all) => all.indexOf(path) === at,
      ),
    );
  });

  test("has the sandbox on, no defaults and no configuration of the user's", () => {
    const line = qemuArguments(shape);
    assert.deepEqual(after(line, "-sandbox"), ["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
    for (const flag of ["-nodefaults", "-no-user-config"]) assert.ok(line.includes(flag));
  });

  test("has a NIC without a ROM and, where it leads out, QEMU's own network: IPv4, no port of the host, no file, no helper", () => {
    const nic = (uplink: { namespace: null } | null): readonly string[] =>
      qemuArguments({ ...shape, network: { mac: "02:00:00:00:00:07", uplink } });
    const device = "virtio-net-pci,id=nic,mac=02:00:00:00:00:07,addr=0x3,romfile=,status=off,guest_announce=off";
    assert.ok(after(nic(null), "-device").includes(device));
    assert.deepEqual(after(nic(null), "-netdev"), []);
    const open = nic({ namespace: null });
    assert.ok(after(open, "-device").includes(`${device},netdev=net`));
    assert.deepEqual(after(open, "-netdev"), [
      "user,id=net,ipv4=on,ipv6=off,net=10.0.2.0/24,host=10.0.2.2,dns=10.0.2.3,dhcpstart=10.0.2.15",
    ]);
  });

  test("gives a disk the same address whichever others there are", () => {
    const addressOf = (line: readonly string[]): string | undefined =>
      after(line, "-device").find((device) => device.includes("serial=work"));
    const alone = qemuArguments({ ...shape, disks: shape.disks.filter(({ slot }) => slot === "work") });
    assert.equal(addressOf(alone), addressOf(qemuArguments(shape)));
    assert.match(addressOf(alone) ?? "", /addr=0xb$/);
  });

  test("opens a read-only disk read-only and lets a writable one give space back", () => {
    const nodes = after(qemuArguments(shape), "-blockdev");
    for (const node of nodes.filter((one) => one.includes("node-name=root"))) assert.match(node, /read-only=on/);
    for (const node of nodes.filter((one) => one.includes("node-name=work"))) assert.match(node, /read-only=off,discard=unmap/);
  });

  test("has the same devices for whichever disks, where a snapshot is to fit", () => {
    const restored = { ...shape, kernel: null, snapshot: { memory: 5, shared: false, empty: [] } };
    const devices = (line: readonly string[]): readonly string[] => after(line, "-device");
    assert.deepEqual(devices(qemuArguments(restored)), devices(qemuArguments({ ...restored, disks: [] })));
    assert.equal(devices(qemuArguments(restored)).filter((device) => device.startsWith("virtio-blk-pci")).length, 8);
    assert.ok(devices(qemuArguments(restored)).some((device) => device.startsWith("virtio-net-pci")));
  });

  test("has a file of no bytes behind a device that the guest meets before its disk, and nothing can be written by a device whose disk cannot", () => {
    const empty = (["root", "writable"] as const).map((slot, at) => ({ slot, descriptor: 6 + at }));
    const line = qemuArguments({ ...shape, disks: [], snapshot: { memory: 5, shared: true, empty } });
    const nodes = after(line, "-blockdev").filter((node) => /node-name=(root|writable)/.test(node));
    assert.deepEqual(nodes, [
      "driver=file,node-name=root-file,filename=/dev/fdset/2,read-only=off",
      "driver=raw,node-name=root,file=root-file,read-only=on",
      "driver=file,node-name=writable-file,filename=/dev/fdset/3,read-only=off",
      "driver=raw,node-name=writable,file=writable-file,read-only=off",
    ]);
    assert.deepEqual(after(line, "-add-fd"), ["fd=6,set=2", "fd=7,set=3"]);
  });

  test("refuses an id that would be an option of its own", () => {
    assert.throws(() => qemuArguments({ ...shape, id: "a,debug-threads=on" }), /cannot name a VM/);
  });
});

describe("QEMU's version", () => {
  test("is read from Debian's and from upstream's words", () => {
    assert.equal(parseQemuVersion("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright"), "7.2.22");
    assert.equal(parseQemuVersion("QEMU emulator version 10.0.2\n"), "10.0.2");
    assert.equal(parseQemuVersion("qemu: not found"), null);
  });

  test("I21 one that is too old is refused with the version found and the version needed", () => {
    for (const old of ["6.9.0", "7.1.50", "2.11"]) {
      assert.throws(() => requireQemuVersion(old), new RegExp(`QEMU ${old} is too old: 7.2 or newer is needed`));
    }
    for (const fine of ["7.2.0", "7.10", "8.0.0", "10.1.2"]) assert.equal(requireQemuVersion(fine), fine);
  });

  test("I21 a QEMU that is not installed is named", async () => {
    const asked = readQemuVersion("qemu-system-of-nobody", { signal: AbortSignal.timeout(10_000) });
    await assert.rejects(asked, { code: "VMM_NOT_FOUND", message: /qemu-system-of-nobody is not installed/ });
  });
});

describe("who may open /dev/kvm", () => {
  test("everybody, a group, or nobody but root", () => {
    assert.deepEqual(decideKvmAccess({ mode: 0o20666, gid: 104 }, false), { usable: true, group: null });
    assert.deepEqual(decideKvmAccess({ mode: 0o20660, gid: 104 }, false), { usable: true, group: 104 });
    assert.equal(decideKvmAccess({ mode: 0o20660, gid: 0 }, false).usable, false);
    assert.equal(decideKvmAccess({ mode: 0o20600, gid: 104 }, false).usable, false);
    assert.equal(decideKvmAccess(null, true).usable, false);
    assert.deepEqual(decideKvmAccess({ mode: 0o20600, gid: 0 }, true), { usable: true, group: null });
  });
});
