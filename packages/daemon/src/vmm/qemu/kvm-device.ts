import { stat } from "node:fs/promises";
import { hasCode } from "@kiln/std/node";

export const KVM_DEVICE = "/dev/kvm";

/** Whether a VMM under a uid of its own may open the device, and by which group. */
export type KvmAccess = { readonly usable: true; readonly group: number | null } | { readonly usable: false; readonly reason: string };

interface DeviceMode {
  readonly mode: number;
  readonly gid: number;
}

const READ_WRITE = 0o6;

/** `ownUid`: the VMM keeps the daemon's uid and groups, so that opening decides. */
export const decideKvmAccess = (device: DeviceMode | null, ownUid: boolean): KvmAccess => {
  if (device === null) return { usable: false, reason: `this host has no ${KVM_DEVICE}` };
  const may = (shift: number): boolean => ((device.mode >> shift) & READ_WRITE) === READ_WRITE;
  if (ownUid || may(0)) return { usable: true, group: null };
  if (may(3) && device.gid !== 0) return { usable: true, group: device.gid };
  const mode = (device.mode & 0o777).toString(8).padStart(4, "0");
  return { usable: false, reason: `${KVM_DEVICE} has mode ${mode} and group ${device.gid}, so that a VMM that is not root cannot open it` };
};

export const findKvmAccess = async (uid: number | null): Promise<KvmAccess> => decideKvmAccess(await findDevice(), uid === null);

const findDevice = async (): Promise<DeviceMode | null> => {
  try {
    return await stat(KVM_DEVICE);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return null;
    throw error;
  }
};
