import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import type { FakeHost } from "../../../packages/daemon/src/vmm/fake/host.ts";
import type { SimDisk } from "../disk.ts";
import type { SimPorts } from "./forwarder.ts";
import { entriesOf } from "./home-files.ts";
import { HOME } from "./paths.ts";

interface Looked {
  /** null: no daemon runs, and what only one knows is not looked at. */
  readonly core: Core | null;
  readonly disk: SimDisk;
  readonly host: FakeHost;
  readonly ports: SimPorts;
}

/** One line for each thing that nobody owns. */
export const findLeftovers = ({ core, disk, host, ports }: Looked): readonly string[] => {
  const pooled = new Set((core?.pool.report() ?? []).flatMap(({ ready }) => (ready > 0 ? ["ready"] : [])));
  const isPools = (directory: string): boolean => pooled.size > 0 && directory.startsWith(`${HOME.pool}/`);
  return [
    ...entriesIn(disk, HOME.staging).map((name) => `staging: ${name}`),
    ...entriesIn(disk, HOME.vms).map((name) => `directory of a VM: ${name}`),
    ...(pooled.size > 0 ? [] : entriesIn(disk, HOME.pool).map((name) => `directory of the pool: ${name}`)),
    ...[...host.machines].filter(({ spec }) => !isPools(spec.directory)).map(({ spec }) => `guest: ${spec.id} in ${spec.directory}`),
    ...ports.list().map((address) => `port: ${address}`),
    ...(core === null ? [] : [...recordsOf(core), ...heldBy(core), ...filesWithoutRecord(core, disk)]),
  ];
};

const entriesIn = (disk: SimDisk, directory: string): string[] => entriesOf(disk.list(directory), directory);

const recordsOf = (core: Core): string[] => [
  ...core.vms.list().map(({ name, state }) => `record of a VM: ${name}, ${state}`),
  ...core.images.listImages().map(({ reference }) => `record of an image: ${reference}`),
  ...core.images.listRootfs().map(({ key }) => `record of a rootfs: ${key}`),
  ...core.sagas.list().map(({ saga, operation }) => `log of a saga: ${saga} of ${operation}`),
  ...core.operations.list({ all: false }).map(({ kind, id }) => `operation: ${kind} ${id}`),
];

/** What a daemon holds while it works. */
const heldBy = (core: Core): string[] => {
  const { memoryBytes, cpus, diskBytes } = core.vms.reserved();
  const counts: readonly (readonly [string, number])[] = [
    ["lease", core.leases.active],
    ["lock of a VM", core.vmLocks.size],
    ["run", core.running.list().length],
    ["boot", core.boots.active],
    ["wait for a boot", core.boots.waiting],
    ["wait for memory", core.admission.waiting],
    ["reserved memory", memoryBytes],
    ["reserved CPUs", cpus],
    ["reserved disk", diskBytes],
  ];
  return counts.filter(([, count]) => count > 0).map(([what, count]) => `${what}: ${count}`);
};

/** Kernel sets and pre-boot snapshots are kept, as long as they have a record. */
const filesWithoutRecord = (core: Core, disk: SimDisk): string[] => [
  ...entriesIn(disk, `${HOME.content}/sha256`).map((name) => `blob: ${name}`),
  ...entriesIn(disk, HOME.rootfs).map((name) => `rootfs: ${name}`),
  ...entriesIn(disk, HOME.kernels)
    .filter((key) => core.kernels.getKernel(key) === null)
    .map((key) => `kernel set without a record: ${key}`),
  ...entriesIn(disk, HOME.preboots)
    .filter((key) => core.preboots?.has(key) !== true)
    .map((key) => `pre-boot snapshot without a record: ${key}`),
];
