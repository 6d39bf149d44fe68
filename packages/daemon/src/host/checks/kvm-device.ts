import { constants, type Stats } from "node:fs";
import { open, readFile, stat } from "node:fs/promises";
import { hasCode } from "@kiln/std/node";
import { asRoot, wordsOf } from "./check.ts";

const DEVICE = "/dev/kvm";
/** The kernel's devices.txt: misc, and KVM's minor number. */
const MAJOR = 10;
const MINOR = 232;
const READ_WRITE = 0o6;

/** Whether VMMs of this daemon can open the device. That guests then run only a boot can tell. */
export type KvmDevice = { readonly usable: true } | { readonly usable: false; readonly found: string; readonly fix: string };

export const findKvmDevice = async (uid: number): Promise<KvmDevice> => {
  const stats = await findDevice();
  if (stats === null) return { usable: false, found: `this host has no ${DEVICE}`, fix: await loadModule(uid) };
  const strange = describeStranger(stats);
  if (strange !== null) {
    return { usable: false, found: `${DEVICE} is ${strange}`, fix: `${asRoot(`rm ${DEVICE}`, uid)}, then ${await loadModule(uid)}` };
  }
  return (await findRefusal(stats, uid)) ?? judgeMode(stats, uid);
};

const findDevice = async (): Promise<Stats | null> => {
  try {
    return await stat(DEVICE);
  } catch (error) {
    if (hasCode(error, "ENOENT", "ENOTDIR", "ELOOP")) return null;
    throw error;
  }
};

/** What it is where it is not KVM's device; glibc's makedev(3) has the bits. */
export const describeStranger = (stats: Pick<Stats, "rdev" | "isCharacterDevice" | "isDirectory">): string | null => {
  if (!stats.isCharacterDevice()) return `a ${stats.isDirectory() ? "directory" : "file"}, not a device`;
  const [major, minor] = [(stats.rdev >> 8) & 0xfff, (stats.rdev & 0xff) | ((stats.rdev >> 12) & 0xfff00)];
  return major === MAJOR && minor === MINOR ? null : `the device ${major}:${minor}, and KVM's is ${MAJOR}:${MINOR}`;
};

const findRefusal = async (stats: Stats, uid: number): Promise<KvmDevice | null> => {
  try {
    await using _device = await open(DEVICE, constants.O_RDWR);
    return null;
  } catch (error) {
    if (hasCode(error, "EACCES")) return { usable: false, found: `${DEVICE} cannot be opened by the user ${uid}`, fix: joinGroup(stats) };
    if (hasCode(error, "EPERM")) {
      const fix = `where this is a container, start it with --device ${DEVICE}`;
      return { usable: false, found: `${DEVICE} may not be opened here, though its mode allows it`, fix };
    }
    if (hasCode(error, "ENXIO", "ENODEV")) {
      return { usable: false, found: `${DEVICE} has no driver behind it`, fix: await loadModule(uid) };
    }
    return { usable: false, found: `${DEVICE} cannot be opened: ${wordsOf(error)}`, fix: await loadModule(uid) };
  }
};

/** A device that only root can open, opened for a group of its own as distributions do it. */
const GIVE_TO_GROUP = `groupadd -f --system kvm && chgrp kvm ${DEVICE} && chmod 0660 ${DEVICE}`;

const mayOpen = (mode: number, shift: number): boolean => ((mode >> shift) & READ_WRITE) === READ_WRITE;
const mayGroup = ({ mode, gid }: Pick<Stats, "mode" | "gid">): boolean => mayOpen(mode, 3) && gid !== 0;

const joinGroup = (stats: Stats): string => {
  const give = mayGroup(stats) ? "" : `sudo sh -c '${GIVE_TO_GROUP}', then `;
  const group = mayGroup(stats) ? stats.gid : "kvm";
  return `${give}sudo usermod -aG ${group} "$USER", log in again, and run \`kiln daemon stop\``;
};

/** A daemon of root opens it, but its VMMs are not root: they come in as the group or as others. */
export const judgeMode = (stats: Pick<Stats, "mode" | "gid">, uid: number): KvmDevice => {
  if (uid !== 0 || mayOpen(stats.mode, 0) || mayGroup(stats)) return { usable: true };
  const mode = (stats.mode & 0o777).toString(8).padStart(4, "0");
  return { usable: false, found: `${DEVICE} has mode ${mode} and group ${stats.gid}, and a VMM is not root`, fix: GIVE_TO_GROUP };
};

/** Virtualisation is one flag of the processor, and each maker has a module of its own. */
const loadModule = async (uid: number): Promise<string> => {
  const flags = await readFile("/proc/cpuinfo", "latin1");
  const module = /^flags\s*:.*\bvmx\b/m.test(flags) ? "kvm_intel" : /^flags\s*:.*\bsvm\b/m.test(flags) ? "kvm_amd" : null;
  return module === null
    ? "turn on virtualisation in the firmware, or nested virtualisation where this host is a VM itself"
    : asRoot(`modprobe ${module}`, uid);
};
