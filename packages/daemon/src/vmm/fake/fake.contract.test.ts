import { systemClock, systemRandom } from "@kiln/std";
import { createAgentConnector } from "../../agent/connector.ts";
import type { AgentSession } from "../../vms/agent.port.ts";
import type { Vmm, VmmSpec } from "../../vms/driver.port.ts";
import { driverContract, type DriverStage } from "../driver.contract.ts";
import { saveGuest } from "../save.fixture.ts";
import { FakeDriver } from "./driver.ts";
import { FakeHost } from "./host.ts";

const TIMEOUT_MS = 30_000;

const openStage = async (): Promise<DriverStage> => {
  const host = new FakeHost({ bootMs: 5 });
  const agent = createAgentConnector({ clock: systemClock, random: systemRandom });
  const driver = new FakeDriver(host);
  const createSpec = (id: string): VmmSpec => ({
    ...{ id, cpus: 1, memoryBytes: 64 * 2 ** 20, disks: [], network: null, directory: `/vms/${id}`, uid: null },
    kernel: { vmlinux: "/vmlinux", initramfs: "/initramfs", digest: "sha256:0" },
  });
  const connect = async (vmm: Vmm, epoch: number, signal: AbortSignal): Promise<AgentSession> =>
    agent.connect(await vmm.openAgentChannel({ signal }), { epoch, signal });
  return {
    driver,
    next: () => new FakeDriver(host),
    spec: async (id) => createSpec(id),
    connect: (vmm, signal) => connect(vmm, 1, signal),
    save: (signal) => saveGuest({ driver, spec: createSpec("saved"), connect: (vmm, until) => connect(vmm, 0, until) }, signal),
    remains: async (directory) => [...host.machines].filter(({ spec }) => spec.directory === directory).map(({ spec }) => spec.id),
    murder: async (vmm) => host.find(vmm.ref.vmId)?.end({ reason: "vmm-died", detail: "murdered" }),
    abortAfterMs: [0, 2, 10],
    [Symbol.asyncDispose]: async () => {
      for (const machine of host.machines) machine.end({ reason: "killed" });
    },
  };
};

driverContract("fake", openStage, TIMEOUT_MS);
