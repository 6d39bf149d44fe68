import { z } from "zod";

export const daemonStatus = z.object({
  running: z.literal(true),
  pid: z.int(),
  startedAt: z.string(),
  version: z.string(),
  apiVersion: z.literal("v1"),
  home: z.string(),
  socket: z.string(),
  drivers: z.array(z.object({ name: z.string(), version: z.string().nullable(), accel: z.string().nullable(), reason: z.string() })),
  vms: z.object({ running: z.int(), total: z.int() }),
  operations: z.object({ running: z.int(), queued: z.int() }),
  capacity: z.object({
    memoryBytes: z.object({ total: z.int(), reserved: z.int() }),
    cpus: z.object({ total: z.int(), reserved: z.int() }),
    /** What the disks of all VMs may grow to. */
    diskBytes: z.object({ total: z.int(), reserved: z.int() }),
    /** VMs that wait for memory or CPUs. */
    waiting: z.int(),
    boots: z.object({ limit: z.int(), running: z.int(), queued: z.int() }),
  }),
  /** Guests that wait for the VM that they will be, by shape. */
  pool: z.array(z.object({ cpus: z.int(), memoryBytes: z.int(), wanted: z.int(), ready: z.int() })).default([]),
});
export type DaemonStatus = z.output<typeof daemonStatus>;

export const doctorReport = z.object({
  ok: z.boolean(),
  checks: z.array(
    z.object({
      name: z.string(),
      status: z.enum(["pass", "warn", "fail"]),
      found: z.string().nullable(),
      needed: z.string().nullable(),
      fix: z.string().nullable(),
    }),
  ),
});
export type DoctorReport = z.output<typeof doctorReport>;
export type DoctorCheck = DoctorReport["checks"][number];

export const dfReport = z.object({
  /** Everything below the home, each file counted once: the total is what `du` says. */
  items: z.array(
    z.object({
      /** blob, rootfs, kernel, vm; other: the database, logs and directories. */
      kind: z.string(),
      id: z.string(),
      /** Apparent size. */
      bytes: z.int(),
      /** Allocated blocks. */
      diskBytes: z.int(),
      /** What of it goes when its only user goes; 0 where several use it. */
      uniqueBytes: z.int(),
      inUse: z.boolean(),
    }),
  ),
  /** Images as sums of the blobs and the rootfs above, in bytes on the disk. */
  images: z.array(
    z.object({
      reference: z.string(),
      digest: z.string(),
      diskBytes: z.int(),
      /** Freed when this image goes. */
      uniqueBytes: z.int(),
      /** Kept by other images. */
      sharedBytes: z.int(),
      /** VMs that run on it or could be started on it. */
      vms: z.int(),
    }),
  ),
  total: z.object({ bytes: z.int(), diskBytes: z.int() }),
  /** What the home's file system has left for the daemon's user. */
  freeBytes: z.int(),
  /** What `kiln prune` would free, and `kiln prune --all`. */
  reclaimable: z.object({ diskBytes: z.int(), allDiskBytes: z.int() }),
  /** Paths below the home that no record owns. */
  orphans: z.array(z.string()),
});
export type DfReport = z.output<typeof dfReport>;

/** What is to go. Nothing that is in use, or on its way to be, ever does. */
export const pruneRequest = z.strictObject({
  /** VMs that have exited or failed. */
  vms: z.boolean().default(true),
  /** Images that no VM uses. */
  images: z.boolean().default(false),
  /** Kernel sets that no VM uses and that are not the newest. */
  kernels: z.boolean().default(true),
  /** Says what would go. */
  dryRun: z.boolean().default(false),
});
export type PruneRequest = z.input<typeof pruneRequest>;
export type Prune = z.output<typeof pruneRequest>;

export const pruneReport = z.object({
  /** vm, image, rootfs, blob, kernel. */
  removed: z.array(z.object({ kind: z.string(), id: z.string(), diskBytes: z.int() })),
  /** What could not be removed, and why. */
  failures: z.array(z.object({ kind: z.string(), id: z.string(), error: z.object({ code: z.string(), detail: z.string() }) })),
  diskBytes: z.int(),
  dryRun: z.boolean(),
});
export type PruneReport = z.output<typeof pruneReport>;
