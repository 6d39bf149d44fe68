import { KilnError } from "@kiln/protocol";
import type { AgentSession } from "../vms/agent.port.ts";
import type { Vmm } from "../vms/driver.port.ts";
import type { VmRecord } from "../vms/record.ts";
import type { Core } from "./core.ts";

/** A session of a VM's boot, over a fresh channel. */
export const connectAgent = async (core: Core, to: { vmm: Vmm; epoch: number }, signal: AbortSignal): Promise<AgentSession> =>
  core.agent.connect(await to.vmm.openAgentChannel({ signal }), { epoch: to.epoch, signal });

/** Awaits `step`, or says how the VMM ended under it. */
export const unlessEnded = async <Result>(record: Pick<VmRecord, "name">, vmm: Vmm, step: Promise<Result>): Promise<Result> => {
  const ended = vmm.ended.then((end): never => {
    const said = end.reason === "guest-panic" ? end.console : end.reason === "vmm-died" ? end.detail : end.reason;
    throw new KilnError("VM_DIED", `the VM ${record.name} ended: ${said}`, { object: record.name });
  });
  step.catch(() => undefined); // the VMM's end is the better explanation of the two
  ended.catch(() => undefined);
  return Promise.race([step, ended]);
};
