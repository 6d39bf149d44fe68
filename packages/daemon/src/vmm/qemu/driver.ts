import { constants } from "node:fs";
import { access, chown, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { asKilnError, KilnError } from "@kiln/protocol";
import { type Clock, systemClock } from "@kiln/std";
import { findProcesses, endProcess } from "../../host/proc.ts";
import {
  type DiskSpec,
  type Driver,
  type DriverCapabilities,
  type DriverReport,
  type KernelFiles,
  type OpenVmm,
  type SavableVmm,
  type SavedVmm,
  type SaveTarget,
  type Vmm,
  type VmmRef,
  type VmmShape,
  type VmmSpec,
} from "../../vms/driver.port.ts";
import { VMM_LIMITS } from "../limits.ts";
import { linkedDirectory } from "../linked-directory.ts";
import { AccelChooser, type AccelVerdict } from "./accel.ts";
import type { Accel } from "./args.ts";
import { findKvmAccess } from "./kvm-device.ts";
import { emptySlots, type GuestBegin, type Launched, launchQemu, MARKER, QEMU_DRIVER } from "./launch.ts";
import { announceDisks, OpenSlots } from "./attach.ts";
import { Migration } from "./migration.ts";
import { isGone, type QemuProcess, watchAdopted } from "./process.ts";
import { QmpClient, type QmpEvent } from "./qmp.ts";
import { connectSocket, QMP_SOCKET, removeSockets } from "./sockets.ts";
import { snapshotKey } from "./snapshot-key.ts";
import { QEMU_BINARY, readQemuVersion, requireQemuVersion } from "./version.ts";
import { readRunState } from "./run-state.ts";
import { QemuVmm } from "./vmm.ts";

export interface QemuDriverOptions {
  /** Where the choice of the accel is kept. */
  readonly cacheDir: string;
  /** On the same file system. */
  readonly stagingDir: string;
  readonly clock?: Clock;
  /** "auto" decides by booting. By default what KILN_ACCEL says. */
  readonly accel?: Accel | "auto";
  /** The program; by default found on the PATH. */
  readonly binary?: string;
  /** The daemon's helper for descriptors. */
  readonly helper?: string;
}

/** A uid that is nobody's: the one below those of the VMs. A trial's QEMU runs as it where the daemon is root. */
const TRIAL_UID = 0x5fff_ffff;

/** Runs VMs with QEMU: one process per VM, which outlives the daemon. */
export class QemuDriver implements Driver {
  readonly name = QEMU_DRIVER;
  readonly capabilities: DriverCapabilities = { pause: true, memorySnapshot: true, network: true, accels: ["kvm", "tcg"] };
  readonly #clock: Clock;
  readonly #binary: string;
  readonly #helper: string;
  readonly #accel: Accel | "auto";
  readonly #chooser: AccelChooser;
  #version: string | null = null;

  constructor(options: QemuDriverOptions) {
    this.#clock = options.clock ?? systemClock;
    this.#binary = options.binary ?? QEMU_BINARY;
    this.#helper = options.helper ?? "kiln-descriptors";
    this.#accel = options.accel ?? parseAccel(process.env["KILN_ACCEL"]);
    this.#chooser = new AccelChooser({ cacheDir: options.cacheDir, stagingDir: options.stagingDir, clock: this.#clock });
  }

  async probe(kernel: KernelFiles | null, options: { signal: AbortSignal }): Promise<DriverReport> {
    let version: string | null = null;
    try {
      version = await readQemuVersion(this.#binary, options);
      this.#version = requireQemuVersion(version);
      const { accel, reason } = await this.#verdict(kernel, { version, signal: options.signal });
      return { name: this.name, version, accel, reason };
    } catch (thrown) {
      options.signal.throwIfAborted();
      return { name: this.name, version, accel: null, reason: asKilnError(thrown).message };
    }
  }

  async boot(spec: VmmSpec, options: { signal: AbortSignal }): Promise<Vmm> {
    await requireReadable(spec);
    return (await this.#launch(spec, { from: "kernel" }, options)).vmm;
  }

  async snapshotKey(shape: VmmShape, options: { signal: AbortSignal }): Promise<string> {
    const { version, accel } = await this.#qemu(shape.kernel, options);
    return snapshotKey(shape, { binary: this.#binary, version, accel });
  }

  async bootToSave(shape: Omit<VmmSpec, "network">, target: SaveTarget, options: { signal: AbortSignal }): Promise<SavableVmm> {
    const spec: VmmSpec = { ...shape, network: null };
    await requireReadable(spec);
    await truncate(target.memory, spec.memoryBytes);
    // QEMU opens the memory, and reaches the socket that takes the state, by its own rights
    if (spec.uid !== null) for (const path of [target.memory, spec.directory]) await chown(path, spec.uid, spec.uid);
    const { vmm, qmp, directory, migration } = await this.#launch(spec, { from: "kernel", memory: target.memory }, options);
    if (directory === null) throw new KilnError("INTERNAL", `the VMM of ${spec.id} cannot reach its directory`);
    const to = { directory: spec.directory, descriptor: directory, uid: spec.uid, target: target.state };
    return Object.assign(vmm, {
      save: async ({ signal }: { signal: AbortSignal }): Promise<void> => {
        await qmp.run("stop", {}, { signal });
        await announceDisks(qmp, emptySlots(spec), { signal });
        await migration.send(qmp, to, { signal });
        await vmm.kill();
      },
    });
  }

  async restore(spec: VmmSpec, saved: SavedVmm, options: { signal: AbortSignal }): Promise<Vmm> {
    return (await this.#restore(spec, { saved, open: false }, options)).vmm;
  }

  async restoreOpen(spec: VmmSpec, saved: SavedVmm, options: { signal: AbortSignal }): Promise<OpenVmm> {
    const { vmm, qmp } = await this.#restore(spec, { saved, open: true }, options);
    const slots = new OpenSlots(qmp, { directory: spec.directory, helper: this.#helper, id: spec.id, empty: emptySlots(spec) });
    const resume = vmm.resume.bind(vmm);
    return Object.assign(vmm, {
      attach: (disks: readonly DiskSpec[], how: { signal: AbortSignal }): Promise<void> => slots.attach(disks, how),
      resume: async (how: { signal: AbortSignal }): Promise<void> => void (await Promise.all([resume(how), slots.closeReplaced(how)])),
    });
  }

  async #restore(
    spec: VmmSpec,
    { saved, open }: { saved: SavedVmm; open: boolean },
    options: { signal: AbortSignal },
  ): Promise<{ vmm: QemuVmm; qmp: QmpClient }> {
    const { vmm, qmp, state, migration } = await this.#launch(spec, { from: "snapshot", ...saved, open }, options);
    try {
      if (state === null) throw new KilnError("INTERNAL", `the VMM of ${spec.id} has no state to start from`);
      await migration.receive(qmp, state, options);
      return { vmm, qmp };
    } catch (cause) {
      await this.#hearOut(vmm, options.signal);
      await vmm.kill();
      const end = await vmm.ended;
      options.signal.throwIfAborted();
      const said = end.reason === "vmm-died" ? end.detail : asKilnError(cause).message;
      throw new KilnError("VMM_FAILED", `the VM ${spec.id} could not be restored: ${said}`, { cause, object: spec.id });
    }
  }

  /** A QEMU that cannot take up a snapshot says why and ends by itself. */
  async #hearOut(vmm: Vmm, signal: AbortSignal): Promise<void> {
    const heard = new AbortController();
    const patience = this.#clock.sleep(VMM_LIMITS.lastWordsMs, { signal: AbortSignal.any([signal, heard.signal]) });
    await Promise.race([vmm.ended, patience.catch(() => "left")]);
    heard.abort();
  }

  async #qemu(kernel: KernelFiles, { signal }: { signal: AbortSignal }): Promise<AccelVerdict & { version: string }> {
    signal.throwIfAborted();
    this.#version ??= requireQemuVersion(await readQemuVersion(this.#binary, { signal }));
    return { version: this.#version, ...(await this.#verdict(kernel, { version: this.#version, signal })) };
  }

  async #launch(
    spec: VmmSpec,
    begin: GuestBegin,
    options: { signal: AbortSignal },
  ): Promise<Omit<Launched, "process"> & { vmm: QemuVmm; migration: Migration }> {
    const { accel, group } = await this.#qemu(spec.kernel, options);
    const early: QmpEvent[] = [];
    let take = (event: QmpEvent): void => void early.push(event);
    const plan = { binary: this.#binary, spec, accel, group, begin, onEvent: (event: QmpEvent) => take(event) };
    const { process, ...launched } = await launchQemu(plan, { clock: this.#clock, signal: options.signal });
    const ref = { driver: this.name, vmId: spec.id, identity: process.identity, directory: spec.directory, accel, uid: spec.uid };
    const vmm = new QemuVmm({ process, qmp: launched.qmp, ref, clock: this.#clock });
    const migration = new Migration();
    take = (event) => {
      vmm.takeEvent(event);
      migration.takeEvent(event);
    };
    for (const event of early) take(event);
    return { ...launched, vmm, migration };
  }

  async adopt(ref: VmmRef, { signal }: { signal: AbortSignal }): Promise<Vmm | null> {
    signal.throwIfAborted();
    if (ref.driver !== this.name) throw new KilnError("VMM_FAILED", `the VMM of ${ref.vmId} is one of ${ref.driver}, not of ${this.name}`);
    if (await isGone(ref.identity)) {
      await removeSockets(ref.directory);
      return null;
    }
    const process = watchAdopted(ref.identity, this.#clock);
    try {
      return await this.#takeOver(ref, process, { signal });
    } catch (error) {
      process.release();
      if (!(await isGone(ref.identity))) throw error;
      await removeSockets(ref.directory);
      return null;
    }
  }

  async endStrays(directory: string): Promise<number> {
    const places = [directory, await linkedDirectory(directory)].filter((place) => place !== null);
    const strays = await findProcesses((environment) => places.some((place) => isBelow(environment, place)));
    const signal = AbortSignal.timeout(VMM_LIMITS.killMs);
    const ended = await Promise.all(strays.map(({ identity }) => endProcess(identity, { clock: this.#clock, signal })));
    const sockets = new Set(strays.map(({ environment }) => environment.get(MARKER.directory)).filter((place) => place !== undefined));
    await Promise.all([...sockets].map(removeSockets));
    return ended.filter(Boolean).length;
  }

  async #takeOver(ref: VmmRef, process: QemuProcess, { signal }: { signal: AbortSignal }): Promise<Vmm> {
    let take: (event: QmpEvent) => void = () => undefined;
    const socket = await connectSocket(join(ref.directory, QMP_SOCKET), { clock: this.#clock, signal });
    const qmp = await QmpClient.open(socket, { clock: this.#clock, signal, onEvent: (event) => take(event) });
    const vmm = new QemuVmm({ ref, process, qmp, clock: this.#clock });
    take = (event) => vmm.takeEvent(event);
    // A guest that ended while no daemon ran: QEMU waits with its console.
    if ((await readRunState(qmp, { signal })) === "ended") vmm.guestEnded();
    return vmm;
  }

  async #verdict(kernel: KernelFiles | null, about: { version: string; signal: AbortSignal }): Promise<AccelVerdict> {
    const uid = process.getuid?.() === 0 ? TRIAL_UID : null;
    if (this.#accel === "tcg") return { accel: "tcg", group: null, reason: "KILN_ACCEL asks for it" };
    if (this.#accel === "kvm") {
      const found = await findKvmAccess(uid);
      return { accel: "kvm", group: found.usable ? found.group : null, reason: "KILN_ACCEL asks for it" };
    }
    const { version, signal } = about;
    if (kernel !== null) return this.#chooser.choose({ binary: this.#binary, version, kernel, uid }, { signal });
    const found = await findKvmAccess(uid);
    return { accel: "tcg", group: null, reason: found.usable ? "KVM is tried as soon as there is a kernel to boot" : found.reason };
  }
}

const parseAccel = (text: string | undefined): Accel | "auto" => {
  if (text === undefined || text === "" || text === "auto") return "auto";
  if (text === "kvm" || text === "tcg") return text;
  throw new KilnError("USAGE", `KILN_ACCEL is auto, kvm or tcg, not "${text}"`);
};

const OTHERS_READ = 0o004;

/** QEMU opens kernel and initramfs a second time, by its own rights; disks it only inherits. */
const requireReadable = async ({ id, uid, kernel, directory }: VmmSpec): Promise<void> => {
  await access(directory, constants.W_OK | constants.X_OK);
  for (const path of [kernel.vmlinux, kernel.initramfs]) {
    const { mode } = await stat(path);
    if (uid === null || (mode & OTHERS_READ) !== 0) continue;
    throw new KilnError("VMM_FAILED", `the VM ${id} cannot be started: ${path} has to be readable for uid ${uid}`, { object: id });
  }
};

const isBelow = (environment: ReadonlyMap<string, string>, directory: string): boolean => {
  const place = environment.get(MARKER.directory);
  if (environment.get(MARKER.driver) !== QEMU_DRIVER || !environment.has(MARKER.vm) || place === undefined) return false;
  return place === directory || place.startsWith(`${directory.replace(/\/+$/, "")}/`);
};
