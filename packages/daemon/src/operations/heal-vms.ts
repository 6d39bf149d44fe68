import { asKilnError, KilnError } from "@kiln/protocol";
import type { VmRecord } from "../vms/record.ts";
import { undoStart } from "./adopt-vms.ts";
import type { Core } from "./core.ts";
import { OPERATION_LIMITS } from "./limits.ts";
import { removeVm } from "./remove-vm.ts";
import { takeBackLeft } from "./resume-operations.ts";

/**
 * VMs that were left on their way, because a full disk did not take the end of what was done to them: a start that failed
 * is written down, a deletion is gone on with. Everything that changes a VM holds its lock and is an operation, or is over soon.
 */
export const healVms = async (core: Core): Promise<void> => {
  for (const found of core.vms.list().filter((record) => isLeft(core, record))) {
    if (found.state === "deleting") {
      await removeVm(core, found.id, { force: true });
      continue;
    }
    using _lock = await core.vmLocks.acquire(found.id, { signal: core.stopping });
    const record = core.vms.get(found.id);
    if (record?.state !== "starting" || !isLeft(core, record)) continue;
    const error = new KilnError("VM_BOOT_FAILED", `the VM ${record.name} did not start, and there was no room to write down why`, {
      object: record.name,
    });
    await undoStart(core, record, error);
  }
};

const isLeft = (core: Core, { id, state, operation }: VmRecord): boolean => {
  if (state !== "starting" && state !== "deleting") return false;
  const isWorkedOn = operation !== null && core.operations.findLive(operation) !== null;
  return !isWorkedOn && !core.operations.list({ all: false }).some(({ key }) => key === id);
};

/** Sagas and VMs, until the daemon begins to end. */
export const healRegularly = async (core: Core): Promise<void> => {
  while (!core.stopping.aborted) {
    try {
      await core.clock.sleep(OPERATION_LIMITS.healMs, { signal: core.stopping });
      await takeBackLeft(core);
      await healVms(core);
    } catch (error) {
      if (!core.stopping.aborted)
        core.journal.warn({ error: asKilnError(error).message }, "a VM was left on its way, and is looked at again");
    }
  }
};
