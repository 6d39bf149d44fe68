import type { AgentSession } from "../vms/agent.port.ts";
import type { Vmm } from "../vms/driver.port.ts";
import type { Core } from "./core.ts";

/** A session of a VM's boot, over a fresh channel. */
export const connectAgent = async (core: Core, to: { vmm: Vmm; epoch: number }, signal: AbortSignal): Promise<AgentSession> =>
  core.agent.connect(await to.vmm.openAgentChannel({ signal }), { epoch: to.epoch, signal });
