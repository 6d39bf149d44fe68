import { createAgentConnector } from "../../packages/daemon/src/agent/connector.ts";
import type { AgentConnector, GuestSetup } from "../../packages/daemon/src/vms/agent.port.ts";
import { FakeGuest } from "../../packages/daemon/src/vmm/fake/guest.ts";
import type { Scheduler } from "../sim/scheduler.ts";
import { patient } from "./cable.ts";

export const SETUP: GuestSetup = {
  modules: [],
  disks: { root: "root", writable: "writable", modules: null },
  ...{ hostname: "web", machineId: "0".repeat(32), clockNs: 0n, entropy: new Uint8Array(64), hosts: "", resolvConf: "" },
  ...{ bootId: "11111111-2222-4333-8444-555555555555", network: null },
};

/** A guest with its agent, and Kiln's own way to speak to it. */
export const createGuest = (scheduler: Scheduler): { readonly guest: FakeGuest; readonly connector: AgentConnector } => ({
  guest: new FakeGuest({ clock: scheduler.clockOf(), onPowerOff: () => undefined }),
  connector: createAgentConnector({ clock: patient(scheduler.clockOf()), random: scheduler.dice.source }),
});
