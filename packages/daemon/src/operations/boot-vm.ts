import { asKilnError, KilnError } from "@kiln/protocol";
import { signalAfter, withDeadline } from "@kiln/std";
import type { BootFiles } from "../pipeline/artifacts.port.ts";
import type { WorkOptions } from "../pipeline/work.port.ts";
import type { AgentSession, ExecAttachment } from "../vms/agent.port.ts";
import type { OpenPreboot } from "../snapshots/preboot.ts";
import type { DiskSpec, SavedVmm, Vmm, VmmRef, VmmSpec } from "../vms/driver.port.ts";
import type { VmLog } from "../vms/log.port.ts";
import type { VmRecord } from "../vms/record.ts";
import { connectAgent, unlessEnded } from "./connect-agent.ts";
import type { Core } from "./core.ts";
import type { OperationContext } from "./operation.ts";
import { guestSetup } from "./guest-setup.ts";
import { OPERATION_LIMITS } from "./limits.ts";
import { imageOfRootfs } from "./rebuildable.ts";
import { MAIN_EXEC } from "./running-vms.ts";
import { chooseStart, shapeOf, type StartPath, warmBehind } from "./start-path.ts";
import type { Stopwatch } from "./stopwatch.ts";
import type { PoolEntry } from "./pool.ts";
import { openNetwork, type VmNetwork } from "./vm-network.ts";

const ADOPT_MS = 15_000;

export type VmFiles = BootFiles & { readonly rootfs: string; readonly kernelKey: string };

/** A guest that is up and set up; its command may run already. */
export interface BootedVm {
  readonly vmm: Vmm;
  readonly session: AgentSession;
  readonly log: VmLog;
  main: ExecAttachment | null;
}

interface Boot {
  readonly core: Core;
  readonly record: VmRecord;
  readonly operation: OperationContext;
  readonly stopwatch: Stopwatch;
}

/** Both whole and checked at this use (I7); the disk is made at the first start. */
export const prepareFiles = async (core: Core, record: VmRecord, work: WorkOptions): Promise<VmFiles> => {
  const { signal } = work;
  const rootfs = core.images.getRootfs(record.rootfsKey);
  const isWhole = rootfs !== null && (await core.rootfsFiles.isWhole(rootfs, { signal }));
  const image = isWhole ? null : await imageOfRootfs(core, record.rootfsKey, { vms: [record], signal });
  if (image !== null) await core.pipeline.ensureRootfs(image, work);
  else if (!isWhole) {
    throw new KilnError("ARTIFACT_DAMAGED", `the rootfs of ${record.name} is missing or damaged, and its image ${record.image} is gone`, {
      ...{ object: record.name, hint: `pull ${record.image} again` },
    });
  }
  await core.disks.prepare(record.id, { diskBytes: record.diskBytes, signal });
  const recorded = core.kernels.getKernel(record.kernelKey);
  const isKernelWhole = recorded !== null && (await core.kernelSets.isWhole(recorded, { signal }));
  const kernel = isKernelWhole ? recorded : await core.pipeline.ensureKernel(work);
  return { ...(await core.kernelSets.open(kernel.key)), kernelKey: kernel.key, rootfs: core.rootfsFiles.path(record.rootfsKey) };
};

/** How a start went: which way, why not the faster one, and the milliseconds of the guest's own setup. */
export interface StartReport {
  readonly path: StartPath["path"] | "pool";
  readonly reason: string | null;
  readonly steps: Readonly<Record<string, number>>;
}

type Booted = { readonly booted: BootedVm; readonly report: StartReport };

/**
 * From files to a guest that has answered for this epoch and is set up. A failure or an abort leaves no process (I19).
 * Where a restore fails it is torn down, and the VM boots cold.
 */
export const bootVm = async (boot: Boot, files: VmFiles): Promise<Booted> => {
  const { core, record, operation } = boot;
  const pooled = await tryPool(boot, files);
  if (pooled !== null) return pooled;
  const { signal } = operation;
  const choose = () => chooseStart(core, record, { files, work: { signal, operation: operation.id } });
  const early = await choose();
  using _early = early.saved;
  operation.phase("queue");
  using permit = await core.boots.acquire(operation);
  // of a crowd that asks at once the first boots cold, and what is built behind it is there before the turn of most others
  const chosen = early.path === "cold" && early.mayCome ? await choose() : early;
  using _saved = chosen === early ? null : chosen.saved;
  const restored = chosen.path === "cold" ? chosen.reason : await tryRestore(boot, files, chosen);
  if (typeof restored !== "string") return restored;
  const booted = await inTime(boot, (within) => startGuest(boot, { files, from: null }, within));
  permit[Symbol.dispose]();
  const distrusted = chosen.path === "preboot" ? { record: chosen.saved.record, reason: restored } : null;
  if (record.startMode === "auto") warmBehind(core, shapeOf(record, files), distrusted);
  return { booted: booted.booted, report: { path: "cold", reason: restored, steps: booted.steps } };
};

/** The VM from the pool; null where it has none of this shape, or that one was of no use. Memory that is short is freed. */
const tryPool = async (boot: Boot, files: VmFiles): Promise<Booted | null> => {
  const { core, record, operation } = boot;
  const entry = core.pool.claim(core, record, files.kernelKey);
  await core.pool.relieve(core);
  if (entry === null) return null;
  try {
    const { booted, steps } = await withDeadline(OPERATION_LIMITS.restoreMs, (signal) => startPooled(boot, { files, entry }, signal), {
      ...{ signal: operation.signal, clock: core.clock },
      onTimeout: () =>
        new KilnError("VM_BOOT_FAILED", `the pooled VM ${record.name} did not answer within ${OPERATION_LIMITS.restoreMs} ms`),
    });
    return { booted, report: { path: "pool", reason: null, steps } };
  } catch (error) {
    operation.signal.throwIfAborted();
    core.journal.warn({ vm: record.id, error: asKilnError(error).message }, "a guest of the pool could not be used");
    return null;
  } finally {
    core.pool.refillSoon(core);
  }
};

/** The guest becomes this VM, whose record names it already. */
const startPooled = async (
  { core, record, stopwatch }: Boot,
  { files, entry }: { files: VmFiles; entry: PoolEntry },
  signal: AbortSignal,
): Promise<{ booted: BootedVm; steps: Readonly<Record<string, number>> }> => {
  const { vmm } = entry;
  await using undo = new AsyncDisposableStack();
  undo.defer(() => vmm.kill());
  stopwatch.phase("attach");
  const log = await core.logs.begin(record.id);
  undo.defer(() => log.close());
  const network = await openNetwork(core, record, { files, signal });
  const own = vmmSpec(core, record, { files, network }).disks.filter(({ slot }) => slot !== "modules");
  await vmm.attach(own, { signal });
  await vmm.resume({ signal });
  await core.checkpoint("start.booted");
  stopwatch.phase("agent");
  const session = await unlessEnded(record, vmm, connectAgent(core, { vmm, epoch: record.epoch }, signal));
  await core.checkpoint("start.connected");
  stopwatch.phase("setup");
  const steps = await unlessEnded(record, vmm, session.setup(guestSetup(core, record, { files, network, isPrepared: true }), { signal }));
  undo.move();
  return { booted: { vmm, session, log, main: null }, steps };
};

/** The VM, or why it could not be restored. */
const tryRestore = async (boot: Boot, files: VmFiles, { saved }: { saved: OpenPreboot }): Promise<Booted | string> => {
  const { core, record, operation } = boot;
  try {
    const restore = (signal: AbortSignal) => startGuest(boot, { files, from: saved }, signal);
    const { booted, steps } = await withDeadline(OPERATION_LIMITS.restoreMs, restore, {
      ...{ signal: operation.signal, clock: core.clock },
      onTimeout: () =>
        new KilnError("VM_BOOT_FAILED", `the restored VM ${record.name} did not answer within ${OPERATION_LIMITS.restoreMs} ms`),
    });
    return { booted, report: { path: "preboot", reason: null, steps } };
  } catch (error) {
    operation.signal.throwIfAborted();
    if (record.startMode === "preboot") throw error;
    const { message } = asKilnError(error);
    core.journal.warn({ vm: record.id, error: message }, "a restore failed; the VM boots cold");
    return `the restore failed: ${message}`;
  }
};

/** Runs a part of the boot within the time that a boot may take. */
export const inTime = async <Result>({ core, record, operation }: Boot, work: (signal: AbortSignal) => Promise<Result>): Promise<Result> =>
  withDeadline(core.config.bootTimeoutMs, work, {
    ...{ signal: operation.signal, clock: core.clock },
    onTimeout: () =>
      new KilnError("VM_BOOT_FAILED", `the VM ${record.name} did not answer within ${core.config.bootTimeoutMs} ms`, {
        object: record.name,
      }),
  });

const startGuest = async (
  { core, record, stopwatch }: Boot,
  { files, from }: { files: VmFiles; from: SavedVmm | null },
  signal: AbortSignal,
): Promise<{ booted: BootedVm; steps: Readonly<Record<string, number>> }> => {
  await using undo = new AsyncDisposableStack();
  const log = await core.logs.begin(record.id);
  undo.defer(() => log.close());
  stopwatch.phase("network");
  const network = await openNetwork(core, record, { files, signal });
  const spec = vmmSpec(core, record, { files, network });
  stopwatch.phase(from === null ? "vmm" : "restore");
  const vmm = await (from === null ? core.driver.boot(spec, { signal }) : core.driver.restore(spec, from, { signal }));
  undo.defer(() => vmm.kill());
  await core.checkpoint("start.booted");
  core.vms.change(record.id, { vmm: vmm.ref }, { from: ["starting"] });
  stopwatch.phase(from === null ? "kernel" : "agent");
  const session = await unlessEnded(record, vmm, connectAgent(core, { vmm, epoch: record.epoch }, signal));
  await core.checkpoint("start.connected");
  stopwatch.phase("setup");
  const setup = guestSetup(core, record, { files, network, isPrepared: from !== null });
  const steps = await unlessEnded(record, vmm, session.setup(setup, { signal }));
  undo.move();
  return { booted: { vmm, session, log, main: null }, steps };
};

/** A guest that an earlier daemon had booted; null where it has ended since. */
export const readoptVm = async (core: Core, record: VmRecord, ref: VmmRef): Promise<BootedVm | null> => {
  using patience = signalAfter(ADOPT_MS, core.clock);
  const { signal } = patience;
  const vmm = await core.driver.adopt(ref, { signal });
  if (vmm === null) return null;
  await using undo = new AsyncDisposableStack();
  undo.defer(() => vmm.kill());
  const session = await unlessEnded(record, vmm, connectAgent(core, { vmm, epoch: record.epoch }, signal));
  const log = (await core.logs.open(record.id)) ?? (await core.logs.begin(record.id));
  undo.move();
  return { vmm, session, log, main: null };
};

const vmmSpec = (core: Core, record: VmRecord, { files, network }: { files: VmFiles; network: VmNetwork }): VmmSpec => {
  const disks: DiskSpec[] = [
    { slot: "root", path: files.rootfs, readOnly: true },
    { slot: "writable", path: core.disks.writableDiskPath(record.id), readOnly: false },
    { slot: "modules", path: files.modulesImage, readOnly: true },
  ];
  const { id, cpus, memoryBytes, slot } = record;
  const uid = core.config.uidBase === null ? null : core.config.uidBase + slot;
  return { id, cpus, memoryBytes, kernel: files, disks, network: network.vmm, directory: core.disks.directory(id), uid };
};

/** Runs the VM's own command, once however often it is asked for: its exec id is always the same (I26). */
export const startCommand = async (record: VmRecord, session: AgentSession, signal: AbortSignal): Promise<ExecAttachment> => {
  await session.exec(
    {
      id: MAIN_EXEC,
      argv: record.command ?? [],
      env: [...record.env, `HOSTNAME=${record.hostname}`],
      cwd: record.workingDir,
      ...{ user: record.user, tty: record.tty, stdin: record.stdin },
      // as with docker's log: nothing is lost while the daemon restarts; the command waits where it writes on
      overflow: "block",
    },
    { signal },
  );
  return session.attach(MAIN_EXEC, { signal });
};
