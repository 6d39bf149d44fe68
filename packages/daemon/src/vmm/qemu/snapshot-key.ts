import { createHash } from "node:crypto";
import { readFile, realpath, stat } from "node:fs/promises";
import { release, version } from "node:os";
import { join } from "node:path";
import { hasCode } from "@kiln/std/node";
import { TOOL_PATH } from "../../host/confined.ts";
import { MET_SLOTS, type VmmShape } from "../../vms/driver.port.ts";
import { type Accel, qemuArguments } from "./args.ts";

/**
 * 64 hex digits that name all that the devices and the memory of a saved QEMU depend on: its command line less what
 * differs from VM to VM, its build, the kernel set, the host's kernel and, where the guest sees it, the processor.
 */
export const snapshotKey = async (shape: VmmShape, qemu: { binary: string; version: string; accel: Accel }): Promise<string> => {
  const { cpus, memoryBytes, kernel } = shape;
  const snapshot = { memory: 0, shared: false, empty: MET_SLOTS.map((slot) => ({ slot, descriptor: 0 })) };
  const line = qemuArguments({
    ...{ id: "snapshot", accel: qemu.accel, cpus, memoryBytes, network: null, disks: [] },
    ...{ descriptors: { qmp: 0, agent: 0, hand: null }, kernel: { vmlinux: 0, initramfs: 0 }, snapshot },
  });
  const host = { kernel: `${release()} ${version()}`, cpu: qemu.accel === "kvm" ? await processor() : null };
  const parts = ["kiln.snapshot", line, qemu.version, await identifyBinary(qemu.binary), kernel.digest, host];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
};

/** A package's upgrade may keep the version's first three numbers. */
const identifyBinary = async (binary: string): Promise<unknown> => {
  for (const directory of binary.includes("/") ? [""] : TOOL_PATH.split(":")) {
    try {
      const path = await realpath(join(directory, binary));
      const { size, mtimeMs, ino } = await stat(path);
      return { path, size, mtimeMs, ino };
    } catch (error) {
      if (!hasCode(error, "ENOENT", "ENOTDIR")) throw error;
    }
  }
  return null;
};

/** What /proc/cpuinfo says of the first processor, but for what changes from moment to moment. */
const processor = async (): Promise<string> => {
  const [first = ""] = (await readFile("/proc/cpuinfo", "utf8")).split("\n\n");
  return first
    .split("\n")
    .filter((line) => /^(vendor_id|cpu family|model|model name|stepping|microcode|flags|vmx flags|bugs|CPU |Features)/.test(line))
    .join("\n");
};
