import { createHash } from "node:crypto";
import { readFile, truncate, writeFile } from "node:fs/promises";
import type { Duplex } from "node:stream";
import { KilnError } from "@kiln/protocol";
import { Deferred } from "@kiln/std";
import type {
  DiskSpec,
  Driver,
  DriverCapabilities,
  DriverReport,
  KernelFiles,
  OpenVmm,
  SavableVmm,
  SavedVmm,
  SaveTarget,
  Vmm,
  VmmEnd,
  VmmRef,
  VmmShape,
  VmmSpec,
} from "../../vms/driver.port.ts";
import { linkedDirectory } from "../linked-directory.ts";
import { FakeHost, type FakeMachine } from "./host.ts";

const NAME = "fake";
const ACCEL = "none";
const SAVED = "a fake guest\n";

/** The files of saved guests, and the links to where VMMs were started. */
export interface FakeFiles {
  write(path: string, text: string, options: { sizeBytes: number | null }): Promise<void>;
  read(path: string): Promise<string>;
  /** null where a directory's VMM was started in it. */
  linkedDirectory(directory: string): Promise<string | null>;
}

const nodeFiles: FakeFiles = {
  write: async (path, text, { sizeBytes }) => {
    await writeFile(path, text);
    if (sizeBytes !== null) await truncate(path, sizeBytes);
  },
  read: (path) => readFile(path, "utf8"),
  linkedDirectory,
};

/** Runs no guests: each VM is a scripted guest in this process. For tests of everything above a driver. */
export class FakeDriver implements Driver {
  readonly name = NAME;
  readonly capabilities: DriverCapabilities = { pause: true, memorySnapshot: true, network: false, accels: [ACCEL] };
  readonly #host: FakeHost;
  readonly #files: FakeFiles;

  constructor(host: FakeHost = new FakeHost(), files: FakeFiles = nodeFiles) {
    this.#host = host;
    this.#files = files;
  }

  async probe(_kernel: KernelFiles | null, options: { signal: AbortSignal }): Promise<DriverReport> {
    options.signal.throwIfAborted();
    return { name: NAME, version: "1.0.0", accel: ACCEL, reason: "a fake guest needs no processor of its own" };
  }

  async boot(spec: VmmSpec, { signal }: { signal: AbortSignal }): Promise<Vmm> {
    signal.throwIfAborted();
    const fault = this.#host.options.faultOf?.(spec) ?? null;
    const machine = this.#host.start(spec);
    try {
      if (fault === "refuse")
        throw new KilnError("VMM_FAILED", `the VM ${spec.id} could not be started: asked to fail`, { object: spec.id });
      await this.#host.clock.sleep(fault === "hang" ? Infinity : (this.#host.options.bootMs ?? 0), { signal });
      signal.throwIfAborted();
    } catch (error) {
      machine.end({ reason: "killed" });
      throw error;
    }
    const vmm = new FakeVmm(machine);
    if (fault === "die") machine.end({ reason: "vmm-died", detail: "asked to die" });
    return vmm;
  }

  async snapshotKey({ cpus, memoryBytes, kernel }: VmmShape, { signal }: { signal: AbortSignal }): Promise<string> {
    signal.throwIfAborted();
    return createHash("sha256")
      .update(JSON.stringify([NAME, cpus, memoryBytes, kernel.digest]))
      .digest("hex");
  }

  async bootToSave(shape: Omit<VmmSpec, "network">, target: SaveTarget, options: { signal: AbortSignal }): Promise<SavableVmm> {
    const vmm = await this.boot({ ...shape, network: null }, options);
    return Object.assign(vmm, {
      save: async ({ signal }: { signal: AbortSignal }): Promise<void> => {
        signal.throwIfAborted();
        await this.#files.write(target.memory, SAVED, { sizeBytes: shape.memoryBytes });
        await this.#files.write(target.state, SAVED, { sizeBytes: null });
        await vmm.kill();
      },
    });
  }

  /** A fake guest has nothing that could be kept: what is restored is a fresh one, if the state is that of a fake. */
  async restore(spec: VmmSpec, saved: SavedVmm, options: { signal: AbortSignal }): Promise<Vmm> {
    const state = await this.#files.read(saved.state);
    if (state !== SAVED) throw new KilnError("VMM_FAILED", `the VM ${spec.id} could not be restored: ${saved.state} is not a fake's`);
    return this.boot(spec, options);
  }

  async restoreOpen(spec: VmmSpec, saved: SavedVmm, options: { signal: AbortSignal }): Promise<OpenVmm> {
    const vmm = await this.restore(spec, saved, options);
    return Object.assign(vmm, {
      attach: async (_disks: readonly DiskSpec[], { signal }: { signal: AbortSignal }): Promise<void> => signal.throwIfAborted(),
    });
  }

  async adopt(ref: VmmRef, { signal }: { signal: AbortSignal }): Promise<Vmm | null> {
    signal.throwIfAborted();
    const machine = this.#host.find(ref.vmId);
    return machine === null || machine.identity.pid !== ref.identity.pid ? null : new FakeVmm(machine);
  }

  async endStrays(directory: string): Promise<number> {
    const places = [directory, await this.#files.linkedDirectory(directory)].filter((place) => place !== null);
    const isBelow = (own: string): boolean => places.some((place) => `${own}/`.startsWith(`${place.replace(/\/+$/, "")}/`));
    const strays = [...this.#host.machines].filter(({ spec }) => isBelow(spec.directory));
    for (const machine of strays) machine.end({ reason: "killed" });
    return strays.length;
  }
}

class FakeVmm implements Vmm {
  readonly ref: VmmRef;
  readonly ended: Promise<VmmEnd>;
  readonly #machine: FakeMachine;
  #channel: Duplex | null = null;
  #detached = false;
  #over = false;

  constructor(machine: FakeMachine) {
    const { identity, spec } = machine;
    this.ref = { driver: NAME, vmId: spec.id, identity, directory: spec.directory, accel: ACCEL, uid: spec.uid };
    this.#machine = machine;
    const ended = new Deferred<VmmEnd>();
    this.ended = ended.promise;
    void machine.ended.then((end) => {
      this.#over = true;
      if (!this.#detached) ended.resolve(end);
    });
  }

  async openAgentChannel({ signal }: { signal: AbortSignal }): Promise<Duplex> {
    this.#require(signal);
    this.#channel = this.#machine.guest.openChannel();
    return this.#channel;
  }

  async console({ signal }: { signal: AbortSignal }): Promise<Uint8Array> {
    signal.throwIfAborted();
    return new TextEncoder().encode(this.#over ? "" : this.#machine.console);
  }

  async pause({ signal }: { signal: AbortSignal }): Promise<void> {
    this.#require(signal);
    this.#machine.paused = true;
  }

  async resume({ signal }: { signal: AbortSignal }): Promise<void> {
    this.#require(signal);
    this.#machine.paused = false;
  }

  async kill(): Promise<void> {
    if (this.#detached) return;
    this.#machine.end({ reason: "killed" });
    await this.ended;
  }

  async detach(): Promise<void> {
    this.#detached = true;
    this.#channel?.destroy();
  }

  #require(signal: AbortSignal): void {
    signal.throwIfAborted();
    if (this.#over || this.#detached) throw new KilnError("VMM_FAILED", `the VMM of ${this.ref.vmId} is not held any more`);
  }
}
