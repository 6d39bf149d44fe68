import { asKilnError, KilnError, type OperationView, type VmId } from "@kiln/protocol";
import { LIVE_STATES, type VmRecord } from "../vms/record.ts";
import type { Core } from "./core.ts";
import { getVm } from "./find-vm.ts";

export const beginRemoveVm = (core: Core, reference: string, options: { force: boolean; idempotencyKey: string | null }): OperationView => {
  const { force, idempotencyKey } = options;
  const idempotency = idempotencyKey === null ? null : { key: idempotencyKey, request: { vm: reference, force } };
  const known = core.operations.recall("vm.delete", idempotency);
  if (known !== null) return known;
  const record = getVm(core.vms, reference);
  if (!force) refuseRunning(core, record.id);
  return core.operations.begin(
    { kind: "vm.delete", key: record.id, subject: record.name },
    async () => {
      await removeVm(core, record.id, { force });
      return record.id;
    },
    idempotency,
  );
};

const refuseRunning = (core: Core, id: VmId): void => {
  const record = core.vms.get(id);
  if (record === null || !LIVE_STATES.has(record.state)) return;
  throw new KilnError("VM_RUNNING", `the VM ${record.name} is ${record.state}`, { object: record.name });
};

/**
 * Delete wins in every state (I22): it is not cancelled, every step runs even if one before it failed, and their
 * errors are joined. The record goes last, so that what is left can be found and deleted again. Idempotent.
 */
export const removeVm = async (
  core: Core,
  id: VmId,
  options: { force: boolean; /** Asked under the VM's lock; then nobody's start is cancelled. */ onlyIf?: (record: VmRecord) => boolean },
): Promise<void> => {
  const never = new AbortController().signal;
  if (options.onlyIf === undefined) cancelStart(core, id);
  const run = core.running.get(id);
  if (run !== null && options.force) {
    run.ending ??= "kill";
    // what fails here is tried again as a step, and reported there
    await run.vmm.kill().catch((error: unknown) => core.journal.warn({ vm: id, error: String(error) }, "a VMM could not be killed"));
  }
  using _lock = await core.vmLocks.acquire(id, { signal: never });
  const record = core.vms.get(id);
  if (record === null || options.onlyIf?.(record) === false) return;
  if (!options.force) refuseRunning(core, id);
  const before = record.state;
  core.vms.change(id, { state: "deleting" }, { from: [before] });
  await core.checkpoint("delete.marked");
  const failures: unknown[] = [];
  for (const step of [() => endRun(core, id), () => core.driver.endStrays(core.disks.directory(id)), () => core.disks.remove(id)]) {
    try {
      await step();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) {
    const words = failures.map((failure) => asKilnError(failure).message).join("; ");
    throw new KilnError("INTERNAL", `deleting the VM ${record.name} left something behind: ${words}`, {
      ...{ cause: new AggregateError(failures), object: record.name, hint: `try again with \`kiln rm -f ${record.name}\`` },
    });
  }
  await core.checkpoint("delete.cleaned");
  core.vms.remove(id);
  core.running.failStart(id, new KilnError("VM_NOT_FOUND", `the VM ${record.name} was removed`, { object: record.name }));
};

/** A start holds the VM's lock until it ends; this makes it end. */
const cancelStart = (core: Core, id: VmId): void => {
  const record = core.vms.get(id);
  if (record === null) return;
  for (const operation of core.operations.list({ all: false })) {
    const startsIt =
      operation.kind === "vm.start"
        ? operation.key === id
        : operation.kind === "vm.create" && record.state === "starting" && operation.key === record.name;
    if (startsIt) core.operations.cancel(operation.id);
  }
};

const endRun = async (core: Core, id: VmId): Promise<void> => {
  const run = core.running.get(id);
  if (run === null) return;
  run.ending ??= "kill";
  await run.vmm.kill();
  await run.finished.promise;
};
