import { KilnError } from "@kiln/protocol";
import { type Clock, withDeadline } from "@kiln/std";
import type { OpenPreboot, PrebootFiles, PrebootRecord, PrebootStore } from "../snapshots/preboot.ts";
import type { AgentConnector, AgentSession, GuestPreparation } from "../vms/agent.port.ts";
import { type Driver, MET_SLOTS, type Vmm, type VmmShape, type VmmSpec } from "../vms/driver.port.ts";
import { guestNetwork } from "../vms/guest-network.ts";
import type { BootFiles } from "./artifacts.port.ts";
import type { Checkpoint } from "./checkpoints.ts";
import type { JoinedWork, WorkContext, WorkOptions } from "./work.port.ts";

/** What VMs have in common that start from one snapshot. */
export interface PrebootShape {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly kernelKey: string;
  readonly kernel: BootFiles;
}

export interface PrebootParts {
  readonly driver: Driver;
  readonly agent: AgentConnector;
  readonly work: JoinedWork;
  readonly store: PrebootStore;
  readonly files: PrebootFiles;
  readonly clock: Clock;
  readonly checkpoint: Checkpoint;
  /** A build boots a guest: it waits for its turn like one. */
  readonly admit: (signal: AbortSignal) => Promise<Disposable>;
  /** Whose the guest that is saved is; nobody's VM has it. */
  readonly uid: number | null;
  /** After a build that failed, none is begun behind a boot for so long. */
  readonly retryMs: number;
  /** A build takes no longer: what hangs must not keep others from booting. */
  readonly buildMs: number;
}

type PrebootSteps = Parameters<PrebootFiles["build"]>[1];

/** The newest few are kept. */
const KEPT = 8;
const BUILD_ID = "preboot";
/** No VM has it: each of its own is later. */
const SAVED_EPOCH = 0;
/** Each VM's own takes its place. */
const SAVED_MAC = "02:00:00:00:00:00";

/** Pre-boot snapshots: built once per key for all who want them, verified by a trial, published like any artifact. */
export class Preboots {
  readonly #parts: PrebootParts;
  /** On the monotonic clock. */
  readonly #failedAt = new Map<string, number>();

  constructor(parts: PrebootParts) {
    this.#parts = parts;
  }

  /**
   * One that a VM of this shape can start from now; null where there is none yet. Throws ARTIFACT_DAMAGED for one that is
   * not what was saved (I7, I34), which is forgotten.
   */
  async open(shape: PrebootShape, options: { signal: AbortSignal }): Promise<OpenPreboot | null> {
    const { store, files } = this.#parts;
    const record = store.getPreboot(await this.#key(shape, options));
    if (record === null) return null;
    try {
      return await files.open(record, options);
    } catch (error) {
      if (error instanceof KilnError && error.code === "ARTIFACT_DAMAGED") this.distrust(record, error.message);
      throw error;
    }
  }

  has(key: string): boolean {
    return this.#parts.store.getPreboot(key) !== null;
  }

  /** The newest first. */
  list(): readonly PrebootRecord[] {
    return this.#parts.store.listPreboots();
  }

  /** The newest first; one of an earlier daemon or host may be among them. */
  shapesOf(kernelKey: string): Pick<PrebootShape, "cpus" | "memoryBytes">[] {
    const records = this.#parts.store.listPreboots().filter((record) => record.kernelKey === kernelKey);
    return records.map(({ cpus, memoryBytes }) => ({ cpus, memoryBytes }));
  }

  /** A VM could not be started from it: the next one builds it again, unless somebody has done so. */
  distrust({ key, state }: PrebootRecord, reason: string): void {
    if (this.#parts.store.getPreboot(key)?.state.sha256 === state.sha256) this.#remove(key, reason);
  }

  async ensure(shape: PrebootShape, options: WorkOptions): Promise<PrebootRecord> {
    const { store, work } = this.#parts;
    const key = await this.#key(shape, options);
    return work.run(
      {
        kind: "preboot.build",
        key,
        subject: describeShape(shape),
        find: async () => store.getPreboot(key),
        make: (context) => this.#build(key, shape, context),
        describe: (record) => record.key,
      },
      options,
    );
  }

  /** The same for later VMs: what has just failed is not tried again at once. */
  async ensureBehind(shape: PrebootShape, options: { signal: AbortSignal }): Promise<void> {
    const key = await this.#key(shape, options);
    const { clock, retryMs } = this.#parts;
    const failedAt = this.#failedAt.get(key);
    if (failedAt !== undefined && clock.monotonicMs() - failedAt < retryMs) return;
    try {
      await this.ensure(shape, options);
      this.#failedAt.delete(key);
    } catch (error) {
      this.#failedAt.set(key, clock.monotonicMs());
      throw error;
    }
  }

  /** Those of kernels that are gone, and the oldest beyond what is kept. */
  sweep(isKernelThere: (key: string) => boolean): void {
    const records = this.#parts.store.listPreboots();
    const kept = records.filter((record) => isKernelThere(record.kernelKey)).slice(0, KEPT);
    for (const record of records) if (!kept.includes(record)) this.#remove(record.key, "unused");
  }

  #key({ cpus, memoryBytes, kernel }: PrebootShape, options: { signal: AbortSignal }): Promise<string> {
    return this.#parts.driver.snapshotKey({ cpus, memoryBytes, kernel } satisfies VmmShape, options);
  }

  #remove(key: string, reason: string): void {
    const { store, files } = this.#parts;
    store.forgetPreboot(key, reason);
    files.removeNow(key);
  }

  async #build(key: string, shape: PrebootShape, context: WorkContext): Promise<PrebootRecord> {
    const { store, files, clock, checkpoint, admit, buildMs } = this.#parts;
    const { signal } = context;
    const { kernelKey, cpus, memoryBytes } = shape;
    context.phase("queue");
    using _turn = await admit(signal);
    await checkpoint("preboot.begun");
    const saved = await withDeadline(buildMs, (within) => files.build(key, this.#steps(shape, context, within), { signal: within }), {
      ...{ signal, clock },
      onTimeout: () => new KilnError("VM_BOOT_FAILED", `a pre-boot snapshot of ${describeShape(shape)} was not built within ${buildMs} ms`),
    });
    await checkpoint("preboot.published");
    const record = { key, kernelKey, cpus, memoryBytes, ...saved, createdAt: new Date(clock.now()).toISOString() };
    store.putPreboot(record);
    return record;
  }

  #steps(shape: PrebootShape, context: WorkContext, signal: AbortSignal): PrebootSteps {
    const { driver } = this.#parts;
    return {
      save: async (target, directory) => {
        context.phase("boot");
        await using guest = own(await driver.bootToSave(this.#spec(shape, directory), target, { signal }));
        await using session = await this.#meet(guest.vmm, { epoch: SAVED_EPOCH, signal });
        await session.prepare(preparation(shape.kernel, driver.capabilities), { signal });
        await session.ping({ signal });
        await session[Symbol.asyncDispose]();
        context.phase("save");
        await guest.vmm.save({ signal });
      },
      verify: async (saved, directory) => {
        context.phase("verify");
        await using guest = own(await driver.restore({ ...this.#spec(shape, directory), network: null }, saved, { signal }));
        await using session = await this.#meet(guest.vmm, { epoch: SAVED_EPOCH + 1, signal });
        await session.ping({ signal });
      },
    };
  }

  #spec({ cpus, memoryBytes, kernel }: PrebootShape, directory: string): Omit<VmmSpec, "network"> {
    const disks = [{ slot: "modules" as const, path: kernel.modulesImage, readOnly: true }];
    return { id: BUILD_ID, cpus, memoryBytes, kernel, disks, directory, uid: this.#parts.uid };
  }

  /** A session with the guest, or why there is none. */
  async #meet(vmm: Vmm, { epoch, signal }: { epoch: number; signal: AbortSignal }): Promise<AgentSession> {
    const ended = vmm.ended.then((end): never => {
      throw new KilnError("VM_BOOT_FAILED", `the guest of a pre-boot snapshot ended: ${JSON.stringify(end)}`);
    });
    ended.catch(() => undefined);
    const channel = await vmm.openAgentChannel({ signal });
    const connecting = this.#parts.agent.connect(channel, { epoch, signal });
    connecting.catch(() => undefined);
    return Promise.race([connecting, ended]);
  }
}

const own = <Kind extends Vmm>(vmm: Kind): { readonly vmm: Kind } & AsyncDisposable => ({
  vmm,
  [Symbol.asyncDispose]: () => vmm.kill(),
});

/** Done before the guest is saved, and left out of the setup of those that start from it. */
const preparation = (kernel: BootFiles, { network }: Driver["capabilities"]): GuestPreparation => ({
  modules: [...kernel.setupModules, ...kernel.networkModules],
  modulesDisk: "modules",
  metDisks: { root: MET_SLOTS[0], writable: MET_SLOTS[1] },
  network: network ? guestNetwork(SAVED_MAC, []) : null,
});

const MIB = 2 ** 20;
export const describeShape = ({ cpus, memoryBytes }: Pick<PrebootShape, "cpus" | "memoryBytes">): string =>
  `${cpus} CPU${cpus === 1 ? "" : "s"}, ${memoryBytes / MIB} MiB`;
