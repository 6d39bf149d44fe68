import { constants } from "node:fs";
import { type FileHandle, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { KilnError, LIMITS } from "@kiln/protocol";
import { type Clock } from "@kiln/std";
import { spawnConfined } from "../../host/confined.ts";
import { type DiskSlot, MET_SLOTS, type VmmSpec } from "../../vms/driver.port.ts";
import { type Accel, qemuArguments, type QemuShape } from "./args.ts";
import { type QemuProcess, watchChild } from "./process.ts";
import { QmpClient, type QmpEvent } from "./qmp.ts";
import { AGENT_SOCKET, bindSocket, connectSocket, HAND_SOCKET, QMP_SOCKET, removeSockets } from "./sockets.ts";

/** How the guest begins: at its kernel, at its kernel on a memory that will be saved, or where another was saved. */
export type GuestBegin =
  | { readonly from: "kernel" }
  | { readonly from: "kernel"; readonly memory: string }
  /** Where it is `open`, QEMU takes disks while it runs. */
  | { readonly from: "snapshot"; readonly memory: number; readonly state: string; readonly open: boolean };

export interface LaunchPlan {
  readonly binary: string;
  readonly spec: VmmSpec;
  readonly accel: Accel;
  readonly begin: GuestBegin;
  /** The group that may open /dev/kvm, where one is needed. */
  readonly group: number | null;
  readonly onEvent: (event: QmpEvent) => void;
}

export interface Launched {
  readonly process: QemuProcess;
  readonly qmp: QmpClient;
  /** What QEMU calls the state that it starts from and the directory that it may reach; null where it was given none. */
  readonly state: number | null;
  readonly directory: number | null;
}

/** The names of the marker by which a VMM is found in /proc when nobody knows its pid. */
export const MARKER = { vm: "KILN_VM", directory: "KILN_DIR", driver: "KILN_DRIVER" } as const;
export const QEMU_DRIVER = "qemu";

const FIRST_INHERITED = 3;

/**
 * Starts a QEMU that holds everything it needs as open descriptors, and connects to its monitor. On any failure and on
 * abort the process is gone and so are its sockets (I19). Throws VMM_FAILED with QEMU's own words (I20).
 */
export const launchQemu = async (plan: LaunchPlan, options: { clock: Clock; signal: AbortSignal }): Promise<Launched> => {
  options.signal.throwIfAborted();
  await using undo = new AsyncDisposableStack();
  undo.defer(() => removeSockets(plan.spec.directory));
  const { process, ...given } = await startQemu(plan, options.clock);
  undo.defer(() => process.end());
  try {
    const socket = await connectSocket(join(plan.spec.directory, QMP_SOCKET), options);
    const qmp = await QmpClient.open(socket, { ...options, onEvent: plan.onEvent });
    undo.move();
    return { process, qmp, ...given };
  } catch (cause) {
    await process.end();
    const end = await process.gone;
    if (options.signal.aborted) throw options.signal.reason;
    throw new KilnError("VMM_FAILED", `the VM ${plan.spec.id} could not be started: ${end}`, { cause, object: plan.spec.id });
  }
};

/** Returning closes this process's copies: only QEMU holds them then. */
const startQemu = async (plan: LaunchPlan, clock: Clock): Promise<Omit<Launched, "qmp">> => {
  const { binary, spec, accel, group, begin } = plan;
  await using opened = new AsyncDisposableStack();
  const inherited: number[] = [];
  const inherit = (descriptor: number): number => FIRST_INHERITED + inherited.push(descriptor) - 1;
  const inheritSocket = async (name: string): Promise<number> =>
    inherit(opened.use(await bindSocket(join(spec.directory, name))).descriptor);
  const takesDisks = begin.from === "snapshot" && begin.open;
  // a VMM that its guest has taken over cannot fill the host through a disk either
  let fileBytes = takesDisks ? LIMITS.diskBytesMax : 0;
  const inheritFile = async (path: string, flags: number): Promise<number> => {
    const file = opened.use(await openFor(spec, path, flags));
    if (flags === constants.O_RDWR) fileBytes = Math.max(fileBytes, (await file.stat()).size);
    return inherit(file.fd);
  };

  const [qmp, agent] = [await inheritSocket(QMP_SOCKET), await inheritSocket(AGENT_SOCKET)];
  const descriptors = { qmp, agent, hand: takesDisks ? await inheritSocket(HAND_SOCKET) : null };
  const kernel =
    begin.from === "snapshot"
      ? null
      : {
          vmlinux: await inheritFile(spec.kernel.vmlinux, constants.O_RDONLY),
          initramfs: await inheritFile(spec.kernel.initramfs, constants.O_RDONLY),
        };
  const disks = [];
  for (const { slot, path, readOnly } of spec.disks) {
    disks.push({ slot, readOnly, descriptor: await inheritFile(path, readOnly ? constants.O_RDONLY : constants.O_RDWR) });
  }
  const empty = [];
  for (const slot of takesDisks || (begin.from === "kernel" && "memory" in begin) ? emptySlots(spec) : []) {
    empty.push({ slot, descriptor: inherit(opened.use(await openEmpty(spec, slot)).fd) });
  }
  let [snapshot, state, directory]: [QemuShape["snapshot"], number | null, number | null] = [null, null, null];
  if (begin.from === "snapshot") {
    snapshot = { memory: inherit(begin.memory), shared: false, empty };
    state = await inheritFile(begin.state, constants.O_RDONLY);
  } else if ("memory" in begin) {
    snapshot = { memory: await inheritFile(begin.memory, constants.O_RDWR), shared: true, empty };
    directory = await inheritFile(spec.directory, constants.O_RDONLY | constants.O_DIRECTORY);
  }
  const { id, cpus, memoryBytes, network } = spec;
  const confined = await spawnConfined({
    command: binary,
    args: qemuArguments({ id, accel, cpus, memoryBytes, network, descriptors, kernel, snapshot, disks }),
    ...{ uid: spec.uid, group, inherited, fileBytes, namespaces: network?.uplink?.namespace ?? null },
    environment: { [MARKER.vm]: id, [MARKER.directory]: spec.directory, [MARKER.driver]: QEMU_DRIVER },
  });
  return { process: watchChild(confined, clock), state, directory };
};

/** Those that a guest meets, or has met, before they have a disk. */
export const emptySlots = ({ disks }: VmmSpec): readonly DiskSlot[] =>
  MET_SLOTS.filter((slot) => disks.every((disk) => disk.slot !== slot));

/** A file of no bytes that has no name. */
const openEmpty = async (spec: VmmSpec, slot: DiskSlot): Promise<FileHandle> => {
  const path = join(spec.directory, `${slot}.empty`);
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(path, { force: true }));
  return await openFor(spec, path, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW);
};

const openFor = async ({ id }: VmmSpec, path: string, flags: number): Promise<FileHandle> => {
  try {
    return await open(path, flags, 0o600);
  } catch (cause) {
    throw new KilnError("VMM_FAILED", `the VM ${id} cannot be started: ${path} cannot be opened`, { cause, object: id });
  }
};
