import { KilnError, type OperationView, type VmId } from "@kiln/protocol";
import { randomHex } from "@kiln/std";
import type { WorkOptions } from "../pipeline/work.port.ts";
import type { VmmRef } from "../vms/driver.port.ts";
import { LIVE_STATES, NO_RUN, STARTABLE_STATES, type VmRecord } from "../vms/record.ts";
import { type BootedVm, bootVm, inTime, prepareFiles, readoptVm, startCommand, type StartReport, type VmFiles } from "./boot-vm.ts";
import { unlessEnded } from "./connect-agent.ts";
import { type Core, nowIso } from "./core.ts";
import { getVm } from "./find-vm.ts";
import { followRun } from "./follow-run.ts";
import type { CallerFacts } from "./images.ts";
import type { OperationContext } from "./operation.ts";
import { openPorts } from "./ports.ts";
import { removeVm } from "./remove-vm.ts";
import { firstRecord } from "./operations.ts";
import { createRun, MAIN_EXEC } from "./running-vms.ts";
import { NO_LOG, runSaga, type Saga, type SagaFailure, type SagaLog, type SagaRecord } from "./saga/saga.ts";
import { Stopwatch } from "./stopwatch.ts";
import { drainUnread } from "./stream-vm.ts";
import { isSuspended } from "./suspension.ts";

const BOOT_ID_BYTES = 16;

export interface StartContext {
  readonly core: Core;
  readonly id: VmId;
  readonly operation: OperationContext;
  readonly stopwatch: Stopwatch;
  /** An earlier daemon began it: what that one started may still be there. */
  readonly isResumed: boolean;
  files: VmFiles | null;
  booted: BootedVm | null;
  report: StartReport;
}

const NO_REPORT: StartReport = { path: "cold", reason: null, steps: {} };

export const beginStartVm = (
  core: Core,
  reference: string,
  { idempotencyKey, caller }: Omit<CallerFacts, "credentials">,
): OperationView => {
  const idempotency = idempotencyKey === null ? null : { key: idempotencyKey, request: { vm: reference } };
  const known = core.operations.recall("vm.start", idempotency);
  if (known !== null) return known;
  const record = getVm(core.vms, reference);
  return core.operations.beginSaga(
    { spec: { kind: "vm.start", key: record.id, subject: record.name, caller }, idempotency, saga: startInput(record.id) },
    (context, saga) => continueStart(core, saga, context),
  );
};

export const startInput = (id: VmId, options: { afterCreate: boolean } = { afterCreate: false }): { name: string; input: unknown } => ({
  name: START_SAGA.name,
  input: { vm: id, ...options },
});

/**
 * Starts a VM under its own lock, from where the saga stands. Returning means that its agent has answered for this
 * epoch and its command runs. A failure or a cancel leaves no process, no reservation, and the reason in the record (I19).
 */
export const continueStart = async (core: Core, saga: SagaRecord, operation: OperationContext): Promise<string> => {
  const { vm, afterCreate } = saga.input as { vm: VmId; afterCreate: boolean };
  const autoRemove = core.vms.get(vm)?.autoRemove ?? false;
  try {
    await startUnderLock(core, { id: vm, saga, operation });
  } catch (error) {
    if (isSuspended(operation.signal)) throw error;
    // its caller has no other use for it
    if (autoRemove || (afterCreate && operation.signal.aborted)) await removeVm(core, vm, { force: true });
    throw error;
  }
  return vm;
};

/** Starts a VM for work of the daemon's own. Nothing of it is in the log: the next daemon removes the VM and begins the work anew. */
export const startBuilder = (core: Core, id: VmId, operation: OperationContext): Promise<void> =>
  startUnderLock(core, { id, saga: firstRecord(operation.id, startInput(id)), operation, log: NO_LOG });

const startUnderLock = async (
  core: Core,
  what: { id: VmId; saga: SagaRecord; operation: OperationContext; log?: SagaLog },
): Promise<void> => {
  const { id, saga, operation, log = core.sagas } = what;
  using _lock = await core.vmLocks.acquire(id, { signal: operation.signal });
  if (core.vms.get(id)?.state === "running" && core.running.get(id) !== null) return;
  const context = startContext(core, saga, operation);
  try {
    await runSaga(START_SAGA, {
      ...{ context, record: saga, log, signal: operation.signal, checkpoint: core.checkpoint },
      onStep: (name) => context.stopwatch.phase(name),
    });
  } finally {
    if (isSuspended(operation.signal)) await letGo(context);
  }
};

/** A guest that has booted runs on: the next daemon finds it. */
const letGo = async ({ booted }: StartContext): Promise<void> => {
  if (booted === null) return;
  await booted.vmm.detach();
  await booted.session[Symbol.asyncDispose]();
  await booted.log.close();
};

export const startContext = (core: Core, saga: SagaRecord, operation: OperationContext): StartContext => ({
  ...{ core, id: (saga.input as { vm: VmId }).vm, operation },
  ...{ stopwatch: new Stopwatch(core, operation), isResumed: saga.resumes > 0 },
  ...{ files: null, booted: null, report: NO_REPORT },
});

const requireRecord = ({ core, id }: StartContext): VmRecord => {
  const record = core.vms.get(id);
  if (record === null) throw new KilnError("VM_NOT_FOUND", `there is no VM ${id}`, { object: id });
  return record;
};

/** Memory and CPUs are this VM's from here on, and it is in its next epoch. */
const claim = async (context: StartContext): Promise<unknown> => {
  const { core, id, operation } = context;
  const before = requireRecord(context);
  if (before.state === "starting" && before.operation === operation.id) return { epoch: before.epoch };
  const record = await core.admission.claim(
    id,
    {
      state: "starting",
      operation: operation.id,
      epoch: before.epoch + 1,
      bootId: toUuid(randomHex(core.random, BOOT_ID_BYTES)),
      ...NO_RUN,
    },
    { from: [...STARTABLE_STATES], caller: operation },
  );
  return { epoch: record.epoch };
};

const giveBack = ({ core, id, operation }: StartContext, failure: SagaFailure): void => {
  const record = core.vms.get(id);
  // it may be live already: a daemon died before it wrote down that the start was done, and the VM died with it
  if (record !== null && LIVE_STATES.has(record.state) && record.operation === operation.id) {
    const error = { code: failure.code, detail: failure.detail };
    core.vms.change(id, { state: "failed", error, finishedAt: nowIso(core), vmm: null, operation: null }, { from: [record.state] });
  }
  core.running.failStart(id, new KilnError(failure.code, failure.detail, { object: record?.name }));
};

/** Its phases are not the start's own. */
const bareWork = ({ signal, id }: OperationContext): WorkOptions => ({ signal, operation: id });

const boot = async (context: StartContext): Promise<unknown> => {
  const { core, operation, stopwatch } = context;
  await endBoot(context);
  const record = requireRecord(context);
  context.files ??= await prepareFiles(core, record, bareWork(operation));
  const { booted, report } = await bootVm({ core, record, operation, stopwatch }, context.files);
  context.booted = booted;
  context.report = report;
  return { vmm: booted.vmm.ref, report };
};

const takeUpBoot = async (context: StartContext, output: unknown): Promise<void> => {
  const { vmm, report = NO_REPORT } = output as { vmm: VmmRef; report?: StartReport };
  const record = requireRecord(context);
  context.report = report;
  context.booted = await readoptVm(context.core, record, vmm);
  if (context.booted === null) {
    throw new KilnError("VM_DIED", `the VM ${record.name} ended while the daemon was away`, { object: record.name });
  }
};

const publish = async (context: StartContext): Promise<void> => openPorts(context.core, requireRecord(context));

/** No process and no open log of this start, whoever began it. */
const endBoot = async (context: StartContext): Promise<void> => {
  const { core, id, booted, isResumed } = context;
  context.booted = null;
  if (booted !== null) {
    await booted.vmm.kill();
    await booted.session[Symbol.asyncDispose]();
    await booted.log.close();
  }
  if (isResumed) await core.driver.endStrays(core.disks.directory(id));
};

/** Also where it was live already. */
const endAll = async (context: StartContext): Promise<void> => {
  const run = context.core.running.get(context.id);
  if (run !== null) {
    run.ending ??= "kill";
    await run.vmm.kill();
    await run.finished.promise;
  }
  await endBoot(context);
};

const requireBooted = ({ booted, id }: StartContext): BootedVm => {
  if (booted === null) throw new KilnError("INTERNAL", `the VM ${id} is to run a command and has not booted`, { object: id });
  return booted;
};

const runCommand = async (context: StartContext): Promise<void> => {
  const { core, operation, stopwatch } = context;
  const [record, booted] = [requireRecord(context), requireBooted(context)];
  if (record.command === null || booted.main !== null) return;
  const start = (signal: AbortSignal) => unlessEnded(record, booted.vmm, startCommand(record, booted.session, signal));
  booted.main = await inTime({ core, record, operation, stopwatch }, start);
};

const takeUpCommand = async (context: StartContext): Promise<void> => {
  const booted = requireBooted(context);
  if (requireRecord(context).command === null) return;
  booted.main = await booted.session.attach(MAIN_EXEC, { signal: context.operation.signal });
};

/** From here on the VM runs, and somebody follows it to its end. */
const goLive = async (context: StartContext): Promise<void> => {
  const { core, id, stopwatch, report, isResumed } = context;
  if (core.running.get(id) !== null) return;
  const [record, booted] = [requireRecord(context), requireBooted(context)];
  if (record.state === "starting") {
    const { path: startPath, reason: startReason, steps } = report;
    const live = { state: "running" as const, startedAt: nowIso(core), startPath, startReason, timings: stopwatch.end(steps) };
    core.vms.change(id, live, { from: ["starting"] });
  }
  const takenOverMs = isResumed ? core.clock.monotonicMs() : null;
  const run = createRun({ id, name: record.name, epoch: record.epoch, takenOverMs, ...booted });
  context.booted = null;
  core.running.begin(run);
  followRun(core, run);
  if (isResumed) await drainUnread(core, run);
};

export const START_SAGA: Saga<StartContext> = {
  name: "vm.start",
  onFailure: "undo",
  steps: [
    { name: "claim", run: claim, undo: async (context, failure) => giveBack(context, failure) },
    {
      name: "disks",
      run: async (context) => {
        context.files = await prepareFiles(context.core, requireRecord(context), bareWork(context.operation));
      },
    },
    // before the boot, so that an address that is taken costs none; who connects while it starts waits for it
    { name: "ports", run: publish, resume: publish, undo: ({ core, id }) => core.ports.closeAll(id) },
    { name: "boot", run: boot, resume: takeUpBoot, undo: endAll },
    { name: "command", run: runCommand, resume: takeUpCommand },
    { name: "live", run: goLive, resume: goLive },
  ],
};

/** 32 hex digits in the form of RFC 9562. */
const toUuid = (hex: string): string => hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
