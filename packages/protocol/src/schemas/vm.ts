import { z } from "zod";
import { LIMITS } from "../limits.ts";
import { imageSourceFields } from "./image.ts";
import { portRequest, portView } from "./port.ts";

export const VM_STATES = ["created", "starting", "running", "paused", "suspended", "stopping", "exited", "failed", "deleting"] as const;
export type VmState = (typeof VM_STATES)[number];

/** "user": out into the world and nowhere on the host. "user-open": as the host's own programs. "none": no NIC. */
export const NETWORK_MODES = ["user", "none", "user-open"] as const;
export type NetworkMode = (typeof NETWORK_MODES)[number];

/** Ways to a running VM, the slowest first. */
export const START_PATHS = ["cold", "preboot", "pool", "snapshot", "template"] as const;
/** What can be asked for; auto is the fastest that is there. */
export const START_MODES = ["auto", "cold", "preboot"] as const;
export type StartMode = (typeof START_MODES)[number];

const name = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/, "a name has a-z, 0-9 and inner hyphens: it is the VM's hostname")
  .max(LIMITS.nameLength);
export const environment = z.array(z.string().regex(/^[^=\0]+=[^\0]*$/, "an environment entry is NAME=VALUE"));
export const argument = z.string().regex(/^[^\0]*$/, "an argument holds no NUL");
export const labels = z.record(z.string().max(256), z.string().max(4096));

export const memoryBytes = z
  .int()
  .min(LIMITS.memoryBytesMin)
  .max(LIMITS.memoryBytesMax)
  .multipleOf(LIMITS.memoryStepBytes, "memory comes in steps of 64 MiB");

/** What `kiln create` and `kiln run` send. Absent fields take the daemon's defaults. */
export const createVmRequest = z.strictObject({
  image: z.string().min(1).max(4096),
  pull: z.enum(["missing", "always", "never"]).default("missing"),
  ...imageSourceFields,
  name: name.optional(),
  command: z.array(argument).nullable().default(null),
  entrypoint: z.array(argument).nullable().default(null),
  env: environment.default([]),
  workingDir: z.string().startsWith("/").nullable().default(null),
  user: z.string().max(256).nullable().default(null),
  hostname: name.nullable().default(null),
  idle: z.boolean().default(false),
  tty: z
    .strictObject({ rows: z.int().min(1).max(65535), cols: z.int().min(1).max(65535) })
    .nullable()
    .default(null),
  stdin: z.boolean().default(false),
  cpus: z.int().min(1).max(LIMITS.cpus).optional(),
  memoryBytes: memoryBytes.optional(),
  diskBytes: z.int().min(LIMITS.diskBytesMin).max(LIMITS.diskBytesMax).multipleOf(4096).optional(),
  network: z.enum(NETWORK_MODES).default("user"),
  /** Ports of the guest at addresses of the host. */
  ports: z.array(portRequest).max(LIMITS.ports).default([]),
  startMode: z.enum(START_MODES).default("auto"),
  labels: labels.default({}),
  /** The VM is deleted when it ends. */
  autoRemove: z.boolean().default(false),
  /** Start it as part of the same operation. */
  start: z.boolean().default(false),
});
export type CreateVmRequest = z.input<typeof createVmRequest>;
export type CreateVm = z.output<typeof createVmRequest>;

export const vmView = z.object({
  id: z.string(),
  name: z.string(),
  state: z.enum(VM_STATES),
  exitCode: z.int().nullable(),
  signal: z.string().nullable(),
  error: z.object({ code: z.string(), detail: z.string() }).nullable(),
  image: z.string(),
  imageDigest: z.string(),
  rootfsDigest: z.string(),
  kernel: z.string(),
  command: z.array(z.string()),
  createdAt: z.string(),
  startedAt: z.string().nullable(),
  finishedAt: z.string().nullable(),
  cpus: z.int(),
  memoryBytes: z.int(),
  diskBytes: z.int(),
  tty: z.boolean(),
  /** Whether its command reads stdin. */
  stdin: z.boolean(),
  driver: z.string(),
  accel: z.string().nullable(),
  pid: z.int().nullable(),
  epoch: z.int(),
  bootId: z.string().nullable(),
  startPath: z.enum(START_PATHS).nullable(),
  /** Why it was not started a faster way; null where it was, or has not been started. */
  startReason: z.string().nullable(),
  timings: z.record(z.string(), z.number()),
  network: z.object({
    mode: z.string(),
    mac: z.string().nullable(),
    address: z.string().nullable(),
    ports: z.array(portView),
  }),
  health: z.string().nullable(),
  labels,
});
export type VmView = z.output<typeof vmView>;

export const stopVmRequest = z.strictObject({
  /** How long the command has to end after its stop signal before it is killed. */
  timeoutMs: z.int().min(0).max(3_600_000).default(10_000),
});
export type StopVmRequest = z.input<typeof stopVmRequest>;

export const killVmRequest = z.strictObject({ signal: z.string().max(16).default("SIGKILL") });

/** The first text message on an exec WebSocket. */
export const execRequest = z.strictObject({
  /** Chosen by the caller; asking twice with one id runs the command once. */
  id: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
  /** Where it has been asked for before: the epoch of that guest. Another guest refuses it. */
  epoch: z.int().min(0).nullable().default(null),
  command: z.array(argument).min(1),
  env: environment.default([]),
  workingDir: z.string().startsWith("/").nullable().default(null),
  user: z.string().max(256).nullable().default(null),
  tty: z
    .strictObject({ rows: z.int().min(1).max(65535), cols: z.int().min(1).max(65535) })
    .nullable()
    .default(null),
  stdin: z.boolean().default(false),
  /** What happens when nobody reads: the process waits, or the oldest output is dropped and the gap told. */
  overflow: z.enum(["block", "drop"]).default("block"),
});
export type ExecRequest = z.input<typeof execRequest>;
export type Exec = z.output<typeof execRequest>;
