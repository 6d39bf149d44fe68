import { asKilnError, KilnError } from "@kiln/protocol";
import { randomHex, signalAfter, withDeadline } from "@kiln/std";
import type { PoolShape } from "../config/config.ts";
import type { Preboots, PrebootShape } from "../pipeline/preboots.ts";
import type { GuestSetup } from "../vms/agent.port.ts";
import { DISK_SLOTS, type DiskSpec, type OpenVmm } from "../vms/driver.port.ts";
import type { PoolDirectories } from "../vms/pool.port.ts";
import type { VmRecord } from "../vms/record.ts";
import { LIVE_STATES } from "../vms/record.ts";
import { connectAgent, unlessEnded } from "./connect-agent.ts";
import type { Core } from "./core.ts";
import { guestSetup } from "./guest-setup.ts";
import { OPERATION_LIMITS } from "./limits.ts";
import { openBuilt } from "./start-path.ts";
import { openPoolNetwork } from "./vm-network.ts";

/** A guest that waits, paused, for the VM that it will be: restored and rehearsed, without a disk or a name. */
export interface PoolEntry {
  readonly shape: Omit<PrebootShape, "kernel">;
  readonly vmm: OpenVmm;
  readonly directory: string;
}

/** The epoch of a guest that is nobody's yet. */
const POOL_EPOCH = 0;
/** Slots that no VM of today uses: the rehearsal's disks are there, and gone for the guest after it. */
const REHEARSAL = { root: "volume2", writable: "volume3" } as const;
/** Of VMMs that were nobody's when they began: above those of all VMs that have a slot. */
const POOL_UIDS = 2 ** 24;
const ENTRY_BYTES = 6;
/** The agent's own program, which does nothing as anybody but the first process. */
const REHEARSED_COMMAND = ["/init"];
const REHEARSED_RUNS = 2;

/**
 * Keeps guests ready for the shapes that the configuration names. It takes only memory that no VM holds, gives it back as
 * soon as one wants it, and what it keeps ends with the daemon.
 */
export class Pool implements AsyncDisposable {
  readonly #wanted: readonly PoolShape[];
  readonly #directories: PoolDirectories;
  readonly #ready = new Set<PoolEntry>();
  /** Directories of entries that are being made or given up. */
  readonly #busy = new Set<string>();
  readonly #closing = new AbortController();
  #filling: Promise<void> | null = null;
  #isAskedAgain = false;

  constructor(wanted: readonly PoolShape[], directories: PoolDirectories) {
    this.#wanted = wanted;
    this.#directories = directories;
  }

  /** How many are wanted and ready, by shape. */
  report(): { cpus: number; memoryBytes: number; wanted: number; ready: number }[] {
    return this.#wanted.map((shape) => ({
      ...{ cpus: shape.cpus, memoryBytes: shape.memoryBytes, wanted: shape.count },
      ready: [...this.#ready].filter((entry) => isOf(entry, shape)).length,
    }));
  }

  get memoryBytes(): number {
    return [...this.#ready].reduce((sum, { shape }) => sum + shape.memoryBytes, 0);
  }

  /**
   * One that is this VM from this turn on: its record names it, and so does its directory, so that neither a crash nor a
   * sweep takes it for nobody's. null where there is none of its shape.
   */
  claim(core: Core, record: VmRecord, kernelKey: string): PoolEntry | null {
    if (record.startMode !== "auto" || record.network.mode !== "user") return null;
    const found = [...this.#ready].find((entry) => isOf(entry, record) && entry.shape.kernelKey === kernelKey);
    if (found === undefined) return null;
    core.disks.linkVmmNow(record.id, found.directory);
    core.vms.change(record.id, { vmm: found.vmm.ref }, { from: ["starting"] });
    this.#ready.delete(found);
    return found;
  }

  /** Gives up entries until VMs have the memory that they hold. */
  async relieve(core: Core): Promise<void> {
    while (this.#ready.size > 0 && core.vms.reserved().memoryBytes + this.memoryBytes > core.capacity.memoryBytes) {
      const [entry] = this.#ready;
      if (entry !== undefined) await this.#giveUp(entry);
    }
  }

  /** Makes what is missing, one after the other, while nobody waits for it; nothing without snapshots. Returns at once. */
  refill(core: Core): void {
    if (this.#wanted.length === 0 || core.preboots === null || this.#closing.signal.aborted) return;
    this.#isAskedAgain = true;
    this.#filling ??= this.#fillUp(core, core.preboots);
  }

  /** The same a little later: a VM that has just claimed a guest runs its first command now, and has the cores to itself. */
  refillSoon(core: Core): void {
    const { signal } = this.#closing;
    core.clock.sleep(OPERATION_LIMITS.refillDelayMs, { signal }).then(
      () => this.refill(core),
      (error: unknown) => {
        if (!signal.aborted) throw error;
      },
    );
  }

  async #fillUp(core: Core, preboots: Preboots): Promise<void> {
    const { signal } = this.#closing;
    try {
      while (this.#isAskedAgain && !signal.aborted) {
        this.#isAskedAgain = false;
        await this.#sweep(core);
        for (let shape = this.#missing(core); shape !== null && !signal.aborted; shape = this.#missing(core)) {
          await this.#add(core, preboots, { wanted: shape, signal });
        }
      }
    } catch (error) {
      if (!signal.aborted)
        core.journal.warn({ error: asKilnError(error).message }, "the pool could not be filled; it is tried again at the next claim");
    } finally {
      // in the turn in which it saw that nobody had asked again
      this.#filling = null;
    }
  }

  #missing(core: Core): PoolShape | null {
    const held = core.vms.reserved().memoryBytes + this.memoryBytes;
    const isMissing = (shape: PoolShape): boolean => [...this.#ready].filter((entry) => isOf(entry, shape)).length < shape.count;
    return this.#wanted.find((shape) => isMissing(shape) && held + shape.memoryBytes <= core.capacity.memoryBytes) ?? null;
  }

  /** Returning means that there is one more. */
  async #add(core: Core, preboots: Preboots, { wanted, signal }: { wanted: PoolShape; signal: AbortSignal }): Promise<void> {
    const kernelRecord = await core.pipeline.ensureKernel({ signal });
    const kernel = await core.kernelSets.open(kernelRecord.key);
    const shape: PrebootShape = { cpus: wanted.cpus, memoryBytes: wanted.memoryBytes, kernelKey: kernelRecord.key, kernel };
    using saved = await openBuilt(preboots, shape, { signal });
    using _turn = await core.boots.acquire({ caller: "pool", signal, position: () => undefined });
    const name = `pool-${randomHex(core.random, ENTRY_BYTES)}`;
    await using undo = new AsyncDisposableStack();
    const { directory, scratchDisk } = await this.#directories.make(name, { signal });
    this.#busy.add(directory);
    undo.defer(() => this.#drop(directory));
    const network = await openPoolNetwork(core, { files: kernel, signal });
    const disks: DiskSpec[] = [
      { slot: "modules", path: kernel.modulesImage, readOnly: true },
      { slot: REHEARSAL.root, path: kernel.modulesImage, readOnly: true },
      { slot: REHEARSAL.writable, path: scratchDisk, readOnly: false },
    ];
    const { cpus, memoryBytes } = wanted;
    const spec = { id: name, cpus, memoryBytes, kernel, disks, network: network.vmm, directory, uid: this.#uid(core) };
    const vmm = await withDeadline(OPERATION_LIMITS.restoreMs, (within) => core.driver.restoreOpen(spec, saved, { signal: within }), {
      ...{ signal, clock: core.clock },
      // one that hangs would hold its turn to boot for ever
      onTimeout: () => new KilnError("VM_BOOT_FAILED", `a guest for the pool was not restored within ${OPERATION_LIMITS.restoreMs} ms`),
    });
    undo.defer(() => vmm.kill());
    const setup = guestSetup(core, NOBODY, { files: kernel, network, isPrepared: true });
    await rehearse(core, vmm, { setup: { ...setup, disks: { ...REHEARSAL, modules: "modules" } }, signal });
    signal.throwIfAborted();
    undo.move();
    const { kernel: _, ...kept } = shape;
    const entry: PoolEntry = { shape: kept, vmm, directory };
    this.#busy.delete(directory);
    this.#ready.add(entry);
    void vmm.ended.then(() => this.#ended(core, entry));
  }

  /** Lowest that no entry and no VM has. */
  #uid(core: Core): number | null {
    const base = core.config.uidBase;
    if (base === null) return null;
    const taken = new Set<number | null>([
      ...[...this.#ready].map(({ vmm }) => vmm.ref.uid),
      ...core.vms.list().map(({ vmm }) => vmm?.uid ?? null),
    ]);
    let uid = base + POOL_UIDS;
    while (taken.has(uid)) uid += 1;
    return uid;
  }

  async #ended(core: Core, entry: PoolEntry): Promise<void> {
    if (!this.#ready.delete(entry)) return;
    await this.#drop(entry.directory);
    this.refill(core);
  }

  async #giveUp(entry: PoolEntry): Promise<void> {
    this.#ready.delete(entry);
    await entry.vmm.kill();
    await this.#drop(entry.directory);
  }

  async #drop(directory: string): Promise<void> {
    await this.#directories.remove(directory);
    this.#busy.delete(directory);
  }

  /** What belongs to no entry and to no VM that runs is of an earlier daemon, or of a VM that has ended. */
  async #sweep(core: Core): Promise<void> {
    const used = new Set([
      ...[...this.#ready].map(({ directory }) => directory),
      ...this.#busy,
      ...core.vms.list().flatMap(({ vmm, state }) => (vmm !== null && LIVE_STATES.has(state) ? [vmm.directory] : [])),
    ]);
    for (const directory of await this.#directories.list()) {
      if (used.has(directory)) continue;
      await core.driver.endStrays(directory);
      await this.#directories.remove(directory);
    }
  }

  /** For the start of a daemon: ends what an earlier one kept ready. */
  async reconcile(core: Core): Promise<void> {
    await this.#sweep(core);
    this.refill(core);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new KilnError("CANCELLED", "the pool closes"));
    await this.#filling;
    await Promise.all([...this.#ready].map((entry) => this.#giveUp(entry)));
  }
}

const isOf = ({ shape }: PoolEntry, other: { readonly cpus: number; readonly memoryBytes: number }): boolean =>
  shape.cpus === other.cpus && shape.memoryBytes === other.memoryBytes;

/** A guest in the pool has names that no VM has; its own come with its setup. */
const NOBODY = {
  hostname: "pool",
  machineId: "0".repeat(32),
  bootId: "00000000-0000-4000-8000-000000000000",
} as const;

/** Setup and a command, done once for nothing; then the guest stands still. */
const rehearse = async (core: Core, vmm: OpenVmm, { setup, signal: outer }: { setup: GuestSetup; signal: AbortSignal }): Promise<void> => {
  using patience = signalAfter(OPERATION_LIMITS.rehearsalMs, core.clock);
  const signal = AbortSignal.any([outer, patience.signal]);
  const about = { name: "of the pool" };
  await using session = await unlessEnded(about, vmm, connectAgent(core, { vmm, epoch: POOL_EPOCH }, signal));
  const slots = { root: DISK_SLOTS.indexOf(REHEARSAL.root), writable: DISK_SLOTS.indexOf(REHEARSAL.writable) };
  await unlessEnded(about, vmm, session.rehearse(setup, slots, { signal }));
  for (let run = 0; run < REHEARSED_RUNS; run += 1) {
    const id = `rehearsal-${run}`;
    const spec = { id, argv: REHEARSED_COMMAND, env: [], cwd: "/", user: "", tty: null, stdin: false, overflow: "block" as const };
    await unlessEnded(about, vmm, session.exec(spec, { signal }));
    await using attachment = await session.attach(id, { signal });
    for await (const event of attachment.events)
      if (event.type === "output") attachment.acknowledge(event.stream, event.offset + event.bytes.length);
    await session.forget(id, { signal });
  }
  await session[Symbol.asyncDispose]();
  await vmm.pause({ signal });
};
