import { KilnError, NETWORK_MODES, START_MODES, START_PATHS, VM_STATES, type VmId, type VmView } from "@kiln/protocol";
import { z } from "zod";
import type { VmmRef } from "./driver.port.ts";
import { GUEST_NETWORK } from "./guest-network.ts";
import { publishedPort, toPortView } from "./ports.ts";

/** What is kept of a VM. Immutable once reserved: what it is. Changing: its run. */
const vmRecord = z.strictObject({
  id: z.string(),
  name: z.string(),
  state: z.enum(VM_STATES),
  image: z.string(),
  imageDigest: z.string(),
  rootfsKey: z.string(),
  rootfsDigest: z.string(),
  kernelKey: z.string(),
  kernelName: z.string(),
  /** null: idle, no command runs and the VM lives until it is stopped. */
  command: z.array(z.string()).nullable(),
  env: z.array(z.string()),
  workingDir: z.string(),
  user: z.string(),
  hostname: z.string(),
  stopSignal: z.string(),
  tty: z.object({ rows: z.int(), cols: z.int() }).nullable(),
  stdin: z.boolean(),
  /** Which way it is to start: "auto" is the fastest that is there. */
  startMode: z.enum(START_MODES).default("auto"),
  cpus: z.int(),
  memoryBytes: z.int(),
  diskBytes: z.int(),
  machineId: z.string(),
  /** Its place among the host's uids; unique among the VMs of this home. */
  slot: z.int(),
  network: z.object({ mode: z.enum(NETWORK_MODES), mac: z.string().nullable() }).default({ mode: "none", mac: null }),
  labels: z.record(z.string(), z.string()),
  ports: z.array(publishedPort).default([]),
  autoRemove: z.boolean(),
  /** The daemon's own, for the work that made it: in no list, and gone with that work. */
  isBuilder: z.boolean().default(false),
  createdAt: z.string(),
  // the run
  epoch: z.int(),
  bootId: z.string().nullable(),
  startedAt: z.string().nullable(),
  finishedAt: z.string().nullable(),
  exitCode: z.int().nullable(),
  signal: z.string().nullable(),
  error: z.object({ code: z.string(), detail: z.string() }).nullable(),
  timings: z.record(z.string(), z.number()),
  /** Which way it was started last, and why not the faster one. */
  startPath: z.enum(START_PATHS).nullable().default(null),
  startReason: z.string().nullable().default(null),
  vmm: z
    .object({
      driver: z.string(),
      vmId: z.string(),
      identity: z.object({ bootId: z.string(), pidNamespace: z.string(), pid: z.int(), startTime: z.string() }),
      directory: z.string(),
      accel: z.string(),
      uid: z.int().nullable().default(null),
    })
    .nullable(),
  driver: z.string(),
  /** The operation that is starting it; its saga is the only one that may go on or take it back. */
  operation: z.string().nullable().default(null),
});

/** The run's fields of a VM that has none behind it: never started, or about to be. */
export const NO_RUN = {
  startedAt: null,
  finishedAt: null,
  exitCode: null,
  signal: null,
  error: null,
  timings: {},
  startPath: null,
  startReason: null,
  vmm: null,
} satisfies Partial<VmRecord>;

export type VmRecord = Readonly<Omit<z.output<typeof vmRecord>, "id" | "vmm"> & { id: VmId; vmm: VmmRef | null }>;

/** A record that is not complete is refused here, with the name of the field that is missing (I8). */
export const parseVmRecord = (value: unknown): VmRecord => {
  const parsed = vmRecord.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new KilnError("INTERNAL", `a VM's record is not complete: ${issue?.path.join(".")}: ${issue?.message}`);
  }
  return parsed.data as VmRecord;
};

export { LIVE_STATES, STARTABLE_STATES } from "./states.ts";

const texts = new WeakMap<VmRecord, string>();
const lists = new WeakMap<readonly VmRecord[], Uint8Array<ArrayBuffer>>();

/** Those that people are shown: they know nothing of the daemon's own. */
export const shownVms = (records: readonly VmRecord[]): readonly VmRecord[] =>
  records.some((record) => record.isBuilder) ? records.filter((record) => !record.isBuilder) : records;

/** The views of a list as JSON; made once for each list, and each view once for each state of its record, so that ten thousand are told in milliseconds. */
export const vmListBytes = (records: readonly VmRecord[]): Uint8Array<ArrayBuffer> => {
  const known = lists.get(records);
  if (known !== undefined) return known;
  const bytes = new TextEncoder().encode(`[${records.map(vmViewText).join(",")}]`);
  lists.set(records, bytes);
  return bytes;
};

const vmViewText = (record: VmRecord): string => {
  const known = texts.get(record);
  if (known !== undefined) return known;
  const text = JSON.stringify(toVmView(record));
  texts.set(record, text);
  return text;
};

export const toVmView = (record: VmRecord): VmView => ({
  id: record.id,
  name: record.name,
  state: record.state,
  exitCode: record.exitCode,
  signal: record.signal,
  error: record.error,
  image: record.image,
  imageDigest: record.imageDigest,
  rootfsDigest: record.rootfsDigest,
  kernel: record.kernelName,
  command: record.command ?? [],
  createdAt: record.createdAt,
  startedAt: record.startedAt,
  finishedAt: record.finishedAt,
  cpus: record.cpus,
  memoryBytes: record.memoryBytes,
  diskBytes: record.diskBytes,
  tty: record.tty !== null,
  stdin: record.stdin,
  driver: record.driver,
  accel: record.vmm?.accel ?? null,
  pid: record.vmm?.identity.pid ?? null,
  epoch: record.epoch,
  bootId: record.bootId,
  startPath: record.startedAt === null ? null : (record.startPath ?? "cold"),
  startReason: record.startReason,
  timings: record.timings,
  network: {
    ...record.network,
    address: record.network.mode === "none" ? null : GUEST_NETWORK.address,
    ports: record.ports.map(toPortView),
  },
  health: null,
  labels: record.labels,
});
