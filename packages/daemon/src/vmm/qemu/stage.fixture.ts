import { mkdir, mkdtemp, open, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock, systemRandom } from "@kiln/std";
import { signalProcess } from "@kiln/std/node";
import { type TestKernel, testKernel } from "../../../../../test/fixtures/kernel.ts";
import { createAgentConnector } from "../../agent/connector.ts";
import { findProcesses } from "../../host/proc.ts";
import type { AgentSession } from "../../vms/agent.port.ts";
import type { Vmm, VmmSpec } from "../../vms/driver.port.ts";
import type { DriverStage } from "../driver.contract.ts";
import { saveGuest } from "../save.fixture.ts";
import { QemuDriver } from "./driver.ts";
import { MARKER } from "./launch.ts";

const HELPER = join(import.meta.dirname, "../../../../../.cache/agent/kiln-descriptors");

export const BOOT_MS = 60_000;
/** As the daemon does, so that the tests of a root run what a root's daemon runs. */
export const TEST_UID = process.getuid?.() === 0 ? 0x6000_0001 : null;

/** A home that the tests' VMs live in: its path has a space and is longer than a Unix socket's may be. */
export interface QemuStage extends DriverStage {
  readonly driver: QemuDriver;
  readonly home: string;
  readonly kernel: TestKernel;
  readonly spec: (id: string) => Promise<VmmSpec>;
  readonly emptyDisk: (name: string) => Promise<string>;
}

const DISK_BYTES = 2 ** 20;
/** It may have to be fetched and built. */
const KERNEL_MS = 300_000;
let sharedKernel: Promise<TestKernel> | null = null;

export const openQemuStage = async (): Promise<QemuStage> => {
  const kernel = await (sharedKernel ??= testKernel({ signal: AbortSignal.timeout(KERNEL_MS) }));
  const home = await mkdtemp(join(tmpdir(), "kiln-qemu-"));
  const vms = join(home, `the VMs ${"x".repeat(150)}`);
  await mkdir(vms, { mode: 0o700 });
  const [cacheDir, stagingDir] = [join(home, "cache"), join(home, "staging")];
  const agent = createAgentConnector({ clock: systemClock, random: systemRandom, helloMs: BOOT_MS });
  const create = (): QemuDriver => new QemuDriver({ cacheDir, stagingDir, accel: "tcg", helper: HELPER });
  const driver = create();
  const connect = async (vmm: Vmm, epoch: number, signal: AbortSignal): Promise<AgentSession> =>
    agent.connect(await vmm.openAgentChannel({ signal }), { epoch, signal });
  const createSpec = async (id: string): Promise<VmmSpec> => {
    const directory = join(vms, id);
    await mkdir(directory, { mode: 0o700 });
    const disks = [{ slot: "modules" as const, path: kernel.modulesImage, readOnly: true }];
    return { id, cpus: 1, network: null, memoryBytes: 256 * 2 ** 20, kernel, disks, directory, uid: TEST_UID };
  };
  return {
    ...{ driver, home, kernel, next: create, abortAfterMs: [0, 5, 20, 50, 120] },
    spec: createSpec,
    emptyDisk: async (name) => {
      const path = join(home, name);
      await using file = await open(path, "wx", 0o600);
      await file.truncate(DISK_BYTES);
      return path;
    },
    connect: (vmm, signal) => connect(vmm, 1, signal),
    save: async (signal) => saveGuest({ driver, spec: await createSpec("saved"), connect: (vmm, until) => connect(vmm, 0, until) }, signal),
    remains,
    murder: async (vmm) => void (await signalProcess(vmm.ref.identity, "SIGKILL")),
    [Symbol.asyncDispose]: async () => {
      await driver.endStrays(home);
      await rm(home, { recursive: true });
    },
  };
};

/** Processes by their marker, and whatever lies in the VM's directory. */
const remains = async (directory: string): Promise<readonly string[]> => {
  const processes = await findProcesses((environment) => environment.get(MARKER.directory) === directory);
  return [...processes.map(({ identity }) => `process ${identity.pid}`), ...(await readdir(directory))];
};
