import type { Duplex } from "node:stream";
import { FakeDriver } from "../../../packages/daemon/src/vmm/fake/driver.ts";
import type { FakeHost } from "../../../packages/daemon/src/vmm/fake/host.ts";
import { type Driver, VMM_LINK, type Vmm } from "../../../packages/daemon/src/vms/driver.port.ts";
import type { SimDisk } from "../disk.ts";
import type { Life } from "../life.ts";
import { SimChannel } from "./channel.ts";
import { type Troubles, vmmFailure } from "./faults.ts";
import { simulated } from "./simulated.ts";

interface DriverParts {
  readonly host: FakeHost;
  readonly disk: SimDisk;
  readonly life: Life;
  readonly troubles: Troubles;
}

/** The ones that may fail: an end, and what adopts, must not be refused for ever. */
const FALLIBLE: ReadonlySet<string> = new Set([
  "boot",
  "restore",
  "restoreOpen",
  "bootToSave",
  "save",
  "attach",
  "openAgentChannel",
  "pause",
]);
const STARTS: ReadonlySet<string> = new Set(["boot", "restore", "restoreOpen", "bootToSave", "adopt"]);

/** The fake driver of one daemon. Its guests outlive it. */
export const createDriver = (parts: DriverParts): Driver => {
  const { host, disk, life, troubles } = parts;
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  const files = disk.filesOf(life);
  const driver = new FakeDriver(host, {
    write: async (path, content) => files.append(path, new TextEncoder().encode(content)),
    read: async (path) => text(await files.read(path)),
    linkedDirectory: async (directory) => {
      const link = disk.peek(`${directory}/${VMM_LINK}`);
      return link === null ? null : text(link);
    },
  });
  return simulated(driver, {
    life,
    before: async (method) => {
      await troubles.step(`driver.${method}`, life);
      if (FALLIBLE.has(method) && troubles.happens("vmm")) throw vmmFailure(method);
    },
    after: (method) => troubles.step(`driver.${method}.done`, life),
    wrap: (result, method) => (STARTS.has(method) && result !== null ? simulateVmm(result as Vmm, parts) : result),
  });
};

const simulateVmm = (vmm: Vmm, { host, life, troubles }: DriverParts): Vmm => {
  const step = (label: string): Promise<void> => troubles.step(label, life);
  const { vmId } = vmm.ref;
  return simulated(vmm, {
    life,
    own: { ended: vmm.ended.then((end) => step("vmm.ended").then(() => end)) },
    before: async (method) => {
      await step(`vmm.${method}`);
      if (troubles.happens("death")) host.find(vmId)?.end({ reason: "vmm-died", detail: "the simulated VMM crashed" });
      if (FALLIBLE.has(method) && troubles.happens("vmm")) throw vmmFailure(method);
    },
    after: (method) => step(`vmm.${method}.done`),
    wrap: (result, method) =>
      method === "openAgentChannel" ? new SimChannel(result as Duplex, { life, step, breaks: () => troubles.happens("channel") }) : result,
  });
};
