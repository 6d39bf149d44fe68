import { asKilnError, KilnError, type VmId } from "@kiln/protocol";
import { signalAfter } from "@kiln/std";
import type { VmmRef } from "../vms/driver.port.ts";
import type { VmRecord } from "../vms/record.ts";
import { removeAfterReturn } from "./client-return.ts";
import { connectAgent, unlessEnded } from "./connect-agent.ts";
import { type Core, errorView, nowIso } from "./core.ts";
import { followRun, powerOff } from "./follow-run.ts";
import { openPorts } from "./ports.ts";
import { removeVm } from "./remove-vm.ts";
import { reportRepair } from "./report-repair.ts";
import { createRun, MAIN_EXEC, type RunningVm } from "./running-vms.ts";
import { drainUnread } from "./stream-vm.ts";
import { tell } from "./tell.ts";

const ADOPT_MS = 15_000;

/**
 * What an earlier daemon left, brought in line with what the OS says: VMs that run are taken over, those that do not
 * are written down as ended, half-started ones are undone, deletions are finished. One VM's trouble is not another's.
 * Those that are `taken` belong to an operation that goes on.
 */
export const adoptVms = async (core: Core, taken: ReadonlySet<VmId> = new Set()): Promise<void> => {
  await Promise.all(core.vms.list().flatMap((record) => (taken.has(record.id) ? [] : adoptVm(core, record))));
};

const adoptVm = async (core: Core, record: VmRecord): Promise<void> => {
  try {
    if (record.isBuilder) await removeBuilder(core, record);
    else if (record.state === "deleting") await finishRemoval(core, record);
    else if (record.state === "starting") await undoStart(core, record, endedWhileStarting(record));
    else if (record.state === "running" || record.state === "paused" || record.state === "stopping") await takeOver(core, record);
    else if (record.state !== "created" && record.autoRemove) void removeAfterReturn(core, record);
  } catch (error) {
    core.journal.error({ vm: record.id, error: asKilnError(error).message }, "a VM could not be adopted");
  }
};

const finishRemoval = async (core: Core, record: VmRecord): Promise<void> => {
  await removeVm(core, record.id, { force: true });
  reportRepair(core, { subject: record.name, id: record.id, found: "its deletion was half done", did: "the rest of it is gone" });
};

/** The work that it was for begins anew, where somebody still wants it. */
const removeBuilder = async (core: Core, record: VmRecord): Promise<void> => {
  await removeVm(core, record.id, { force: true });
  reportRepair(core, { subject: record.name, id: record.id, found: "the work that it was for ended with its daemon", did: "it is gone" });
};

const endedWhileStarting = ({ name }: VmRecord): KilnError =>
  new KilnError("VM_BOOT_FAILED", `the daemon ended while the VM ${name} was starting`, { object: name });

/** Of a start that nobody is at any more. */
export const undoStart = async (core: Core, record: VmRecord, error: KilnError): Promise<void> => {
  const ended = await core.driver.endStrays(core.disks.directory(record.id));
  const did = ended === 0 ? "it is failed" : `it is failed, and ${processes(ended)} ended`;
  reportRepair(core, { subject: record.name, id: record.id, found: "its start was half done", did });
  await writeEnd(core, record, error);
};

const takeOver = async (core: Core, record: VmRecord): Promise<void> => {
  const found = await findRun(core, record);
  if (found instanceof KilnError) {
    const ended = await core.driver.endStrays(core.disks.directory(record.id));
    const did = ended === 0 ? "it is failed" : `it is failed, and ${processes(ended)} ended`;
    reportRepair(core, { subject: record.name, id: record.id, found: `it was ${record.state}, and its VMM could not be taken over`, did });
    await writeEnd(core, record, found);
    return;
  }
  core.running.begin(found);
  await reopenPorts(core, record);
  // a stop that the last daemon did not finish is finished, or asked for again
  if (record.state === "stopping" && found.main !== null) core.vms.change(record.id, { state: "running" }, { from: ["stopping"] });
  followRun(core, found);
  if (record.state === "stopping" && found.main === null) await powerOff(core, found);
  const { epoch, bootId } = record;
  const pid = record.vmm?.identity.pid ?? null;
  tell(core, { type: "vm.adopted", subject: record.name, data: { id: record.id, pid, epoch, bootId } });
  await drainUnread(core, found);
  core.journal.info({ vm: record.id, pid }, "adopted a running VM");
};

/** A VM whose address was taken meanwhile runs on without it. */
const reopenPorts = async (core: Core, record: VmRecord): Promise<void> => {
  try {
    await openPorts(core, record);
  } catch (error) {
    const found = `its published ports could not be opened again: ${asKilnError(error).message}`;
    reportRepair(core, { subject: record.name, id: record.id, found, did: "it runs on without them" });
    core.journal.error({ vm: record.id, error: asKilnError(error).message }, "published ports could not be opened again");
  }
};

/** The run, or why there is none. */
const findRun = async (core: Core, record: VmRecord): Promise<RunningVm | KilnError> => {
  const ended = (cause?: unknown): KilnError =>
    new KilnError("VM_DIED", `the VM ${record.name} ended while no daemon ran`, { object: record.name, cause });
  if (record.vmm === null) return ended();
  using patience = signalAfter(ADOPT_MS, core.clock);
  try {
    return (await connect(core, record, { ref: record.vmm, signal: patience.signal })) ?? ended();
  } catch (error) {
    core.journal.warn({ vm: record.id, error: asKilnError(error).message }, "a VM could not be taken over");
    return ended(error);
  }
};

const connect = async (core: Core, record: VmRecord, how: { ref: VmmRef; signal: AbortSignal }): Promise<RunningVm | null> => {
  const { signal } = how;
  const vmm = await core.driver.adopt(how.ref, { signal });
  if (vmm === null) return null;
  await using undo = new AsyncDisposableStack();
  undo.defer(() => vmm.kill());
  const { id, name, epoch } = record;
  const session = await unlessEnded(record, vmm, connectAgent(core, { vmm, epoch }, signal));
  const main = record.command === null ? null : await session.attach(MAIN_EXEC, { signal });
  const log = (await core.logs.open(id)) ?? (await core.logs.begin(id));
  undo.move();
  return createRun({ id, name, epoch, vmm, log, session, main, takenOverMs: core.clock.monotonicMs() });
};

const writeEnd = async (core: Core, record: VmRecord, error: KilnError): Promise<void> => {
  const end = { state: "failed" as const, error: errorView(error), finishedAt: nowIso(core), vmm: null };
  core.vms.change(record.id, end, { from: [record.state] });
  if (record.autoRemove) void removeAfterReturn(core, record);
};

const processes = (count: number): string => (count === 1 ? "a process was" : `${count} processes were`);

/** Removes directories of VMs that no record names, and ends what still runs in them. */
export const sweepVmDirectories = async (core: Core): Promise<void> => {
  const known = new Set<string>(core.vms.list().map((record) => record.id));
  for (const id of await core.disks.list()) {
    if (known.has(id)) continue;
    const stray = id as VmRecord["id"];
    const ended = await core.driver.endStrays(core.disks.directory(stray));
    await core.disks.remove(stray);
    reportRepair(core, {
      ...{ subject: id, id, found: "files of a VM that no record names" },
      did: ended === 0 ? "they are gone" : `they are gone, and ${processes(ended)} ended`,
    });
    core.journal.warn({ vm: id, ended }, "removed what an unknown VM left");
  }
};
