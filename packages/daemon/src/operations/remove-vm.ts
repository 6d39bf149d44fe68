import { asKilnError, KilnError, type OperationView, type VmId } from "@kiln/protocol";
import { LIVE_STATES, type VmRecord } from "../vms/record.ts";
import type { Core } from "./core.ts";
import { sweepUnused } from "./sweep.ts";
import { getVm } from "./find-vm.ts";
import type { OperationContext } from "./operation.ts";
import { firstRecord } from "./operations.ts";
import { NO_LOG, runSaga, type Saga, type SagaLog, type SagaRecord } from "./saga/saga.ts";

export interface DeleteContext {
  readonly core: Core;
  readonly id: VmId;
}

export const beginRemoveVm = (
  core: Core,
  reference: string,
  options: { force: boolean; idempotencyKey: string | null; caller: string },
): OperationView => {
  const { force, idempotencyKey, caller } = options;
  const idempotency = idempotencyKey === null ? null : { key: idempotencyKey, request: { vm: reference, force } };
  const known = core.operations.recall("vm.delete", idempotency);
  if (known !== null) return known;
  const { id, name } = getVm(core.vms, reference);
  if (!force) refuseRunning(core, id);
  return core.operations.beginSaga(
    {
      spec: { kind: "vm.delete", key: id, subject: name, caller },
      idempotency,
      saga: { name: DELETE_SAGA.name, input: { vm: id, force } },
    },
    (context, saga) => continueRemove(core, saga, context),
  );
};

export const continueRemove = async (core: Core, saga: SagaRecord, operation: OperationContext): Promise<string> => {
  const { vm, force } = saga.input as { vm: VmId; force: boolean };
  const onStep = (name: string): void => operation.phase(name);
  await removeUnderLock(core, vm, { force: force || saga.resumes > 0, record: saga, log: core.sagas, onStep });
  return vm;
};

const refuseRunning = (core: Core, id: VmId): void => {
  const record = core.vms.get(id);
  if (record === null || !LIVE_STATES.has(record.state)) return;
  throw new KilnError("VM_RUNNING", `the VM ${record.name} is ${record.state}`, { object: record.name });
};

interface RemoveOptions {
  readonly force: boolean;
  /** Asked under the VM's lock; then nobody's start is cancelled. */
  readonly onlyIf?: (record: VmRecord) => boolean;
}

/**
 * Delete wins in every state (I22): it is not cancelled, every step runs even if one before it failed, and their
 * errors are joined. The record goes last, so that what is left can be found and deleted again. Idempotent.
 */
export const removeVm = async (core: Core, id: VmId, options: RemoveOptions): Promise<void> => {
  const record = firstRecord("", { name: DELETE_SAGA.name, input: null });
  // an operation of nobody: `deleting` in the VM's record is log enough
  await removeUnderLock(core, id, { ...options, record, log: NO_LOG, onStep: () => undefined });
};

const removeUnderLock = async (
  core: Core,
  id: VmId,
  options: RemoveOptions & { record: SagaRecord; log: SagaLog; onStep: (name: string) => void },
): Promise<void> => {
  const { force, onlyIf, record: saga, log, onStep } = options;
  const never = new AbortController().signal;
  if (onlyIf === undefined) cancelStart(core, id);
  const run = core.running.get(id);
  if (run !== null && force) {
    run.ending ??= "kill";
    // what fails here is tried again as a step, and reported there
    await run.vmm.kill().catch((error: unknown) => core.journal.warn({ vm: id, error: String(error) }, "a VMM could not be killed"));
  }
  using _lock = await core.vmLocks.acquire(id, { signal: never });
  const record = core.vms.get(id);
  if (record === null || onlyIf?.(record) === false) return;
  if (!force) refuseRunning(core, id);
  try {
    await runSaga(DELETE_SAGA, { context: { core, id }, record: saga, log, signal: never, onStep, checkpoint: core.checkpoint });
  } catch (error) {
    const { code, message } = asKilnError(error);
    throw new KilnError(code, `deleting the VM ${record.name} left something behind: ${message}`, {
      ...{ cause: error, object: record.name, hint: `try again with \`kiln rm -f ${record.name}\`` },
    });
  }
  // what only it was made from is nobody's now
  if (hasNoName(core, record)) await sweepUnused(core);
};

const hasNoName = (core: Core, { imageDigest }: VmRecord): boolean =>
  core.images.listImages().every(({ image }) => image.manifestDigest !== imageDigest);

export const DELETE_SAGA: Saga<DeleteContext> = {
  name: "vm.delete",
  onFailure: "carry on",
  steps: [
    {
      name: "mark",
      run: async ({ core, id }) => {
        const record = core.vms.get(id);
        if (record !== null) core.vms.change(id, { state: "deleting" }, { from: [record.state] });
      },
    },
    {
      name: "end",
      run: async ({ core, id }) => {
        await endRun(core, id);
        await core.ports.closeAll(id);
        await core.driver.endStrays(core.disks.directory(id));
      },
    },
    { name: "files", run: ({ core, id }) => core.disks.remove(id) },
    {
      name: "forget",
      needsAll: true,
      run: async ({ core, id }) => {
        const name = core.vms.get(id)?.name ?? id;
        core.vms.remove(id);
        core.running.failStart(id, new KilnError("VM_NOT_FOUND", `the VM ${name} was removed`, { object: name }));
      },
    },
  ],
};

/** A start holds the VM's lock until it ends; this makes it end. */
const cancelStart = (core: Core, id: VmId): void => {
  const record = core.vms.get(id);
  if (record === null) return;
  core.operations.cancelOn(id, { kinds: ["vm.start", "vm.create"] });
};

const endRun = async (core: Core, id: VmId): Promise<void> => {
  const run = core.running.get(id);
  if (run === null) return;
  run.ending ??= "kill";
  await run.vmm.kill();
  await run.finished.promise;
};
