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
    boots: z.object({ limit: z.int(), running: z.int(), queued: z.int() }),
  }),
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
  items: z.array(
    z.object({
      kind: z.string(),
      id: z.string(),
      /** Apparent size. */
      bytes: z.int(),
      /** Allocated blocks. */
      diskBytes: z.int(),
      uniqueBytes: z.int(),
      inUse: z.boolean(),
    }),
  ),
  total: z.object({ bytes: z.int(), diskBytes: z.int() }),
  /** Paths below the home that no record owns. */
  orphans: z.array(z.string()),
});
export type DfReport = z.output<typeof dfReport>;
