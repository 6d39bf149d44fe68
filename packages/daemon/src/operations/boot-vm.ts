import { KilnError } from "@kiln/protocol";
import { withDeadline } from "@kiln/std";
import type { BootFiles } from "../pipeline/artifacts.port.ts";
import type { WorkOptions } from "../pipeline/work.port.ts";
import type { AgentSession, ExecAttachment, GuestSetup } from "../vms/agent.port.ts";
import type { DiskSpec, Vmm, VmmRef, VmmSpec } from "../vms/driver.port.ts";
import type { VmLog } from "../vms/log.port.ts";
import type { VmRecord } from "../vms/record.ts";
import { connectAgent, unlessEnded } from "./connect-agent.ts";
import type { Core } from "./core.ts";
import type { OperationContext } from "./operation.ts";
import { MAIN_EXEC } from "./running-vms.ts";
import type { Stopwatch } from "./stopwatch.ts";
import { openNetwork, type VmNetwork } from "./vm-network.ts";

const ENTROPY_BYTES = 64;
const ADOPT_MS = 15_000;

export type VmFiles = BootFiles & { readonly rootfs: string };

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
  const image = core.images.getImage(record.image);
  const rootfs = core.images.getRootfs(record.rootfsKey);
  const isWhole = rootfs !== null && (await core.rootfsFiles.isWhole(rootfs, { signal }));
  if (!isWhole && image?.rootfsKey === record.rootfsKey) await core.pipeline.ensureRootfs(image, work);
  else if (!isWhole) {
    throw new KilnError("ARTIFACT_DAMAGED", `the rootfs of ${record.name} is missing or damaged, and its image ${record.image} is gone`, {
      ...{ object: record.name, hint: `pull ${record.image} again` },
    });
  }
  await core.disks.prepare(record.id, { diskBytes: record.diskBytes, signal });
  const recorded = core.kernels.getKernel(record.kernelKey);
  const isKernelWhole = recorded !== null && (await core.kernelSets.isWhole(recorded, { signal }));
  const kernel = isKernelWhole ? recorded : await core.pipeline.ensureKernel(work);
  return { ...(await core.kernelSets.open(kernel.key)), rootfs: core.rootfsFiles.path(record.rootfsKey) };
};

/**
 * From files to a guest that has answered for this epoch and is set up. A failure or an abort leaves no process (I19).
 * `steps` are the milliseconds of the guest's own setup.
 */
export const bootVm = async (boot: Boot, files: VmFiles): Promise<{ booted: BootedVm; steps: Readonly<Record<string, number>> }> => {
  const { core, operation } = boot;
  operation.phase("queue");
  using _permit = await core.boots.acquire(operation);
  return await inTime(boot, (signal) => bootBounded(boot, files, signal));
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

const bootBounded = async (
  { core, record, stopwatch }: Boot,
  files: VmFiles,
  signal: AbortSignal,
): Promise<{ booted: BootedVm; steps: Readonly<Record<string, number>> }> => {
  await using undo = new AsyncDisposableStack();
  const log = await core.logs.begin(record.id);
  undo.defer(() => log.close());
  stopwatch.phase("network");
  const network = await openNetwork(core, record, { files, signal });
  stopwatch.phase("vmm");
  const vmm = await core.driver.boot(vmmSpec(core, record, { files, network }), { signal });
  undo.defer(() => vmm.kill());
  await core.checkpoint("start.booted");
  core.vms.change(record.id, { vmm: vmm.ref }, { from: ["starting"] });
  stopwatch.phase("kernel");
  const session = await unlessEnded(record, vmm, connectAgent(core, { vmm, epoch: record.epoch }, signal));
  await core.checkpoint("start.connected");
  stopwatch.phase("setup");
  const steps = await unlessEnded(record, vmm, session.setup(guestSetup(core, record, { files, network }), { signal }));
  undo.move();
  return { booted: { vmm, session, log, main: null }, steps };
};

/** A guest that an earlier daemon had booted; null where it has ended since. */
export const readoptVm = async (core: Core, record: VmRecord, ref: VmmRef): Promise<BootedVm | null> => {
  const signal = AbortSignal.timeout(ADOPT_MS);
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

const guestSetup = (core: Core, record: VmRecord, { files, network }: { files: BootFiles; network: VmNetwork }): GuestSetup => ({
  modules: files.setupModules,
  disks: { root: "root", writable: "writable", modules: "modules" },
  hostname: record.hostname,
  machineId: record.machineId,
  clockNs: BigInt(Math.round(core.clock.now() * 1000)) * 1000n,
  entropy: core.random.bytes(ENTROPY_BYTES),
  hosts: `127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t${record.hostname}\n`,
  resolvConf: network.resolvConf,
  network: network.guest,
  bootId: record.bootId ?? "",
});

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
