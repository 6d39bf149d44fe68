import { asKilnError, KilnError, type OperationView, type VmId } from "@kiln/protocol";
import { randomHex, withDeadline } from "@kiln/std";
import type { BootFiles } from "../pipeline/artifacts.port.ts";
import type { AgentSession, ExecAttachment, GuestSetup } from "../vms/agent.port.ts";
import type { DiskSpec, VmmSpec } from "../vms/driver.port.ts";
import { STARTABLE_STATES, type VmRecord } from "../vms/record.ts";
import { connectAgent, unlessEnded } from "./connect-agent.ts";
import { type Core, errorView, nowIso } from "./core.ts";
import { getVm } from "./find-vm.ts";
import { followRun } from "./follow-run.ts";
import type { OperationContext } from "./operation.ts";
import { removeVm } from "./remove-vm.ts";
import { createRun, MAIN_EXEC, type RunningVm } from "./running-vms.ts";

const BOOT_ID_BYTES = 16;
const ENTROPY_BYTES = 64;

export const beginStartVm = (core: Core, reference: string, idempotencyKey: string | null): OperationView => {
  const idempotency = idempotencyKey === null ? null : { key: idempotencyKey, request: { vm: reference } };
  const known = core.operations.recall("vm.start", idempotency);
  if (known !== null) return known;
  const record = getVm(core.vms, reference);
  return core.operations.begin(
    { kind: "vm.start", key: record.id, subject: record.name },
    async (context) => {
      await startOrRemove(core, record, context);
      return record.id;
    },
    idempotency,
  );
};

/** A VM with --rm whose start fails is removed: its caller has no other use for it. */
export const startOrRemove = async (core: Core, record: VmRecord, context: OperationContext): Promise<void> => {
  try {
    await startVm(core, record.id, context);
  } catch (error) {
    if (record.autoRemove) await removeVm(core, record.id, { force: true });
    throw error;
  }
};

/**
 * Starts a VM under its own lock. Returning means that its agent has answered for this epoch and its command runs.
 * A failure or a cancel leaves no process, no reservation of memory, and the reason in the record (I19).
 */
export const startVm = async (core: Core, id: VmId, context: OperationContext): Promise<void> => {
  using _lock = await core.vmLocks.acquire(id, { signal: context.signal });
  context.phase("reserve");
  const before = core.vms.get(id);
  if (before === null) throw new KilnError("VM_NOT_FOUND", `there is no VM ${id}`, { object: id });
  if (before.state === "running" && core.running.get(id) !== null) return;
  const record = core.vms.change(
    id,
    {
      state: "starting",
      epoch: before.epoch + 1,
      bootId: toUuid(randomHex(core.random, BOOT_ID_BYTES)),
      ...{ startedAt: null, finishedAt: null, exitCode: null, signal: null, error: null, timings: {}, vmm: null },
    },
    { from: [...STARTABLE_STATES], capacityBytes: core.config.memoryBytes },
  );
  try {
    await core.checkpoint("start.reserved");
    const run = await boot(core, record, context);
    core.running.begin(run);
    followRun(core, run);
  } catch (thrown) {
    const error = asKilnError(thrown);
    core.vms.change(id, { state: "failed", error: errorView(error), finishedAt: nowIso(core), vmm: null }, { from: ["starting"] });
    core.running.failStart(id, error);
    throw error;
  }
};

const boot = async (core: Core, record: VmRecord, context: OperationContext): Promise<RunningVm> => {
  context.phase("queue");
  using _permit = await core.boots.acquire({ signal: context.signal, onPosition: (place) => context.position(place) });
  context.position(null);
  const timeout = (): Error =>
    new KilnError("VM_BOOT_FAILED", `the VM ${record.name} did not answer within ${core.config.bootTimeoutMs} ms`, { object: record.name });
  const { signal } = context;
  return await withDeadline(core.config.bootTimeoutMs, (bounded) => bootBounded(core, record, { ...context, signal: bounded }), {
    ...{ signal, clock: core.clock, onTimeout: timeout },
  });
};

const bootBounded = async (core: Core, record: VmRecord, context: OperationContext): Promise<RunningVm> => {
  const { signal } = context;
  const stopwatch = new Stopwatch(core, context);
  stopwatch.phase("disks");
  const files = await prepareFiles(core, record, signal);
  await using undo = new AsyncDisposableStack();
  const log = await core.logs.begin(record.id);
  undo.defer(() => log.close());
  stopwatch.phase("vmm");
  const vmm = await core.driver.boot(vmmSpec(core, record, files), { signal });
  undo.defer(() => vmm.kill());
  await core.checkpoint("start.booted");
  core.vms.change(record.id, { vmm: vmm.ref }, { from: ["starting"] });
  stopwatch.phase("kernel");
  const session = await unlessEnded(record, vmm, connectAgent(core, { vmm, epoch: record.epoch }, signal));
  await core.checkpoint("start.connected");
  stopwatch.phase("setup");
  const steps = await unlessEnded(record, vmm, session.setup(guestSetup(core, record, files), { signal }));
  stopwatch.phase("command");
  const main = record.command === null ? null : await unlessEnded(record, vmm, startCommand(record, session, signal));
  await core.checkpoint("start.commanded");
  const timings = stopwatch.end(steps);
  core.vms.change(record.id, { state: "running", startedAt: nowIso(core), timings }, { from: ["starting"] });
  undo.move();
  const { id, name, epoch } = record;
  return createRun({ id, name, epoch, vmm, log, session, main });
};

/** Both whole and checked at this use (I7); the disk is made at the first start. */
const prepareFiles = async (core: Core, record: VmRecord, signal: AbortSignal): Promise<BootFiles & { rootfs: string }> => {
  const image = core.images.getImage(record.image);
  const rootfs = core.images.getRootfs(record.rootfsKey);
  const isWhole = rootfs !== null && (await core.rootfsFiles.isWhole(rootfs, { signal }));
  if (!isWhole && image?.rootfsKey === record.rootfsKey) await core.pipeline.ensureRootfs(image, { signal });
  else if (!isWhole) {
    throw new KilnError("ARTIFACT_DAMAGED", `the rootfs of ${record.name} is missing or damaged, and its image ${record.image} is gone`, {
      ...{ object: record.name, hint: `pull ${record.image} again` },
    });
  }
  await core.disks.prepare(record.id, { diskBytes: record.diskBytes, signal });
  const recorded = core.kernels.getKernel(record.kernelKey);
  const isKernelWhole = recorded !== null && (await core.kernelSets.isWhole(recorded, { signal }));
  const kernel = isKernelWhole ? recorded : await core.pipeline.ensureKernel({ signal });
  return { ...(await core.kernelSets.open(kernel.key)), rootfs: core.rootfsFiles.path(record.rootfsKey) };
};

const vmmSpec = (core: Core, record: VmRecord, files: BootFiles & { rootfs: string }): VmmSpec => {
  const disks: DiskSpec[] = [
    { slot: "root", path: files.rootfs, readOnly: true },
    { slot: "writable", path: core.disks.writableDiskPath(record.id), readOnly: false },
    { slot: "modules", path: files.modulesImage, readOnly: true },
  ];
  const { id, cpus, memoryBytes, slot } = record;
  const uid = core.config.uidBase === null ? null : core.config.uidBase + slot;
  return { id, cpus, memoryBytes, kernel: files, disks, directory: core.disks.directory(id), uid };
};

const guestSetup = (core: Core, record: VmRecord, files: BootFiles): GuestSetup => ({
  modules: files.setupModules,
  disks: { root: "root", writable: "writable", modules: "modules" },
  hostname: record.hostname,
  machineId: record.machineId,
  clockNs: BigInt(Math.round(core.clock.now() * 1000)) * 1000n,
  entropy: core.random.bytes(ENTROPY_BYTES),
  hosts: `127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t${record.hostname}\n`,
  resolvConf: "",
});

const startCommand = async (record: VmRecord, session: AgentSession, signal: AbortSignal): Promise<ExecAttachment> => {
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

/** Milliseconds by phase, in the operation and in the record. */
class Stopwatch {
  readonly #core: Core;
  readonly #context: OperationContext;
  readonly #timings: Record<string, number> = {};
  readonly #began: number;
  #phase: string | null = null;
  #phaseBegan = 0;

  constructor(core: Core, context: OperationContext) {
    this.#core = core;
    this.#context = context;
    this.#began = core.clock.monotonicMs();
  }

  phase(name: string): void {
    this.#close();
    this.#phase = name;
    this.#context.phase(name);
  }

  end(steps: Readonly<Record<string, number>>): Record<string, number> {
    this.#close();
    this.#timings["total"] = round(this.#core.clock.monotonicMs() - this.#began);
    const named = Object.entries(steps).map(([name, ms]): [string, number] => [`setup.${name}`, round(ms)]);
    return { ...this.#timings, ...Object.fromEntries(named) };
  }

  #close(): void {
    const now = this.#core.clock.monotonicMs();
    if (this.#phase !== null) this.#timings[this.#phase] = round(now - this.#phaseBegan);
    this.#phaseBegan = now;
  }
}

const round = (ms: number): number => Math.round(ms * 100) / 100;

/** 32 hex digits in the form of RFC 9562. */
const toUuid = (hex: string): string => hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
