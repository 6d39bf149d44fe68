import { systemClock, systemRandom } from "@kiln/std";
import { createAgentConnector } from "../../agent/connector.ts";
import { driverContract, type DriverStage } from "../driver.contract.ts";
import { FakeDriver } from "./driver.ts";
import { FakeHost } from "./host.ts";

const TIMEOUT_MS = 5_000;

const openStage = async (): Promise<DriverStage> => {
  const host = new FakeHost({ bootMs: 5 });
  const agent = createAgentConnector({ clock: systemClock, random: systemRandom });
  return {
    driver: new FakeDriver(host),
    next: () => new FakeDriver(host),
    spec: async (id) => ({
      ...{ id, cpus: 1, memoryBytes: 64 * 2 ** 20, disks: [], network: null, directory: `/vms/${id}`, uid: null },
      kernel: { vmlinux: "/vmlinux", initramfs: "/initramfs", digest: "sha256:0" },
    }),
    connect: async (vmm, signal) => agent.connect(await vmm.openAgentChannel({ signal }), { epoch: 1, signal }),
    remains: async (directory) => [...host.machines].filter(({ spec }) => spec.directory === directory).map(({ spec }) => spec.id),
    murder: async (vmm) => host.find(vmm.ref.vmId)?.end({ reason: "vmm-died", detail: "murdered" }),
    abortAfterMs: [0, 2, 10],
    [Symbol.asyncDispose]: async () => {
      for (const machine of host.machines) machine.end({ reason: "killed" });
    },
  };
};

driverContract("fake", openStage, TIMEOUT_MS);
