import { statfs } from "node:fs/promises";
import { totalmem } from "node:os";
import type { DoctorCheck } from "@kiln/protocol";
import { passed } from "./check.ts";
import { findExisting } from "./home.ts";
import { HOST_LIMITS } from "./limits.ts";

const NODE_MAJOR = 24;

export const checkNode = (): DoctorCheck => {
  const isEnough = Number(process.versions.node.split(".")[0]) >= NODE_MAJOR;
  const fix = isEnough ? null : "run the checkout's ./kiln, which brings its own";
  return { name: "node", status: isEnough ? "pass" : "fail", found: process.version, needed: `${NODE_MAJOR} or newer`, fix };
};

/** Kernels come from Debian's cloud kernel, which exists for amd64, and QEMU is started for that. */
export const checkArchitecture = (arch: string): DoctorCheck => {
  const needed = "x86_64: guests have the host's architecture, and kernels come for this one";
  if (arch === "x64") return passed("architecture", "x86_64", needed);
  return { name: "architecture", status: "fail", found: arch, needed, fix: "use an x86_64 host" };
};

const inGiB = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

export const checkSpace = async (home: string): Promise<DoctorCheck> => {
  const { bavail, bsize } = await statfs(await findExisting(home));
  return judgeSpace(bavail * bsize, home);
};

export const judgeSpace = (freeBytes: number, home: string): DoctorCheck => {
  const { comfortableDiskBytes, leastDiskBytes } = HOST_LIMITS;
  return {
    name: "space",
    status: freeBytes >= comfortableDiskBytes ? "pass" : freeBytes >= leastDiskBytes ? "warn" : "fail",
    found: `${inGiB(freeBytes)} free for ${home}`,
    needed: `${inGiB(comfortableDiskBytes)} for a kernel, an image and a few disks`,
    fix: freeBytes >= comfortableDiskBytes ? null : "make room (`kiln df` says what Kiln holds), or choose another place with --home",
  };
};

/** What a process here may have: a container's limit counts, the host's memory does not. */
export const checkMemory = (): DoctorCheck =>
  judgeMemory({ totalBytes: Math.min(totalmem(), process.constrainedMemory() || Infinity), freeBytes: process.availableMemory() });

export const judgeMemory = ({ totalBytes, freeBytes }: { totalBytes: number; freeBytes: number }): DoctorCheck => {
  const { comfortableMemoryBytes, leastMemoryBytes } = HOST_LIMITS;
  return {
    name: "memory",
    status: freeBytes >= comfortableMemoryBytes ? "pass" : freeBytes >= leastMemoryBytes ? "warn" : "fail",
    found: `${inGiB(freeBytes)} free of ${inGiB(totalBytes)}`,
    needed: `${inGiB(comfortableMemoryBytes)} for a VM of the default size`,
    fix:
      freeBytes >= comfortableMemoryBytes
        ? null
        : "end what else uses memory, or give VMs less: `kiln run -m 128m`, while 512m is the default",
  };
};
