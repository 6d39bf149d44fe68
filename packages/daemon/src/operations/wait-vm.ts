import { type VmView } from "@kiln/protocol";
import { abortable } from "@kiln/std";
import { toVmView } from "../vms/record.ts";
import type { Core } from "./core.ts";
import { getVm } from "./find-vm.ts";

/** The VM once it has ended. One that was never started is waited for. */
export const waitForVm = async (core: Core, reference: string, options: { signal: AbortSignal }): Promise<VmView> => {
  const record = getVm(core.vms, reference);
  if (record.state === "exited" || record.state === "failed") return toVmView(record);
  const run = await core.running.next(record.id, options);
  const exit = await abortable(run.finished.promise, options.signal);
  const after = core.vms.get(record.id) ?? record;
  return { ...toVmView(after), state: exit.error === null ? "exited" : "failed", exitCode: exit.exitCode, signal: exit.signal };
};
