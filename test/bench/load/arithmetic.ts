import type { OperationView } from "@kiln/protocol";

/** What is kept of an operation. */
interface ClientOperation extends Pick<OperationView, "kind"> {
  readonly phases: readonly { readonly name: string; readonly ms: number }[];
  readonly waits: readonly { readonly ms: number | null }[];
}

/** What a client says of its run. */
export interface ClientReport {
  /** From its request to create a VM to the end of the VM's command. */
  readonly ms: number;
  /** To the first byte of the command's output. */
  readonly outputMs: number | null;
  /** null where the command has exited with 0 and written; else the error's code. */
  readonly failure: string | null;
  readonly detail: string | null;
  /** Of the client's own process, from its first request on. */
  readonly cpuMs: number;
  /** Its create and its start. */
  readonly operations: readonly ClientOperation[];
}

/** Where the time of a run went, in milliseconds. */
export interface Split {
  /** In a queue, for memory and CPUs or for a boot: others' turn. */
  readonly queue: number;
  /** For an image, a rootfs and a kernel, which are made once for all. */
  readonly shared: number;
  /** In its own operations otherwise. */
  readonly service: number;
  /** Outside of them: the client, the way to the daemon and back, and the command until its end was heard. */
  readonly outside: number;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** A create does nothing by itself but this; before it, it waits for the image, the rootfs and the kernel, under the names of what that is at. */
const OWN_OF_CREATE = "reserve";

/** A wait lies within a phase; what is neither a wait nor the shared work is the run's own. */
export const split = ({ ms, operations }: Pick<ClientReport, "ms" | "operations">): Split => {
  const isShared = (kind: OperationView["kind"], phase: string): boolean => kind === "vm.create" && phase !== OWN_OF_CREATE;
  const queue = sum(operations.flatMap(({ waits }) => waits.map(({ ms }) => ms ?? 0)));
  const shared = sum(operations.flatMap(({ kind, phases }) => phases.filter(({ name }) => isShared(kind, name)).map(({ ms }) => ms)));
  const all = sum(operations.flatMap(({ phases }) => phases.map((phase) => phase.ms)));
  return { queue, shared, service: all - queue - shared, outside: ms - all };
};

/** A start that waits for a kernel boots cold; one that is restored waits for its agent. */
const OF_COLD_BOOT = "kernel";

export const coldBoots = (reports: readonly Pick<ClientReport, "operations">[]): number =>
  reports.filter(({ operations }) => operations.some(({ phases }) => phases.some(({ name }) => name === OF_COLD_BOOT))).length;

/** How many failed with each code. */
export const failuresByType = (reports: readonly Pick<ClientReport, "failure">[]): Readonly<Record<string, number>> => {
  const counts = new Map<string, number>();
  for (const { failure } of reports) if (failure !== null) counts.set(failure, (counts.get(failure) ?? 0) + 1);
  return Object.fromEntries([...counts].toSorted(([left], [right]) => (left < right ? -1 : 1)));
};

/** Work that is to be done once, however many ask. */
export const ONCE = ["image.pull", "rootfs.build", "kernel.build"] as const;

/** How often each was really done: its runs that joined no other. */
export const runsOf = (
  operations: readonly Pick<OperationView, "kind" | "joined" | "state">[],
): Readonly<Record<(typeof ONCE)[number], number>> => {
  const count = (kind: string): number =>
    operations.filter((one) => one.kind === kind && one.joined === null && one.state === "succeeded").length;
  return { "image.pull": count("image.pull"), "rootfs.build": count("rootfs.build"), "kernel.build": count("kernel.build") };
};
