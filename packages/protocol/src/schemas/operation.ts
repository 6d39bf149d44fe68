import { z } from "zod";
import { operationReport } from "./check.ts";

/** Says who asks, where callers take turns: any short text, other for each client. */
export const CALLER_HEADER = "kiln-caller";

export const OPERATION_STATES = ["queued", "running", "succeeded", "failed", "cancelled"] as const;
export type OperationState = (typeof OPERATION_STATES)[number];

export const OPERATION_KINDS = [
  "vm.create",
  "vm.start",
  "vm.stop",
  "vm.delete",
  "image.ensure",
  "image.pull",
  "image.promote",
  "image.register",
  "image.customize",
  "customize.run",
  "image.verify",
  "image.check",
  "image.rebuild",
  "blob.fetch",
  "rootfs.build",
  "rootfs.rebuild",
  "kernel.build",
  "kernel.warm",
  "preboot.build",
  "scrub",
  "scrub.pass",
] as const;
export type OperationKind = (typeof OPERATION_KINDS)[number];

export const progress = z.object({ done: z.number(), total: z.number().nullable(), unit: z.string() });
export type Progress = z.output<typeof progress>;

/** A part of the work that has a progress of its own: a layer of an image. */
export const operationPart = z.object({
  /** The layer's digest. */
  name: z.string(),
  state: z.enum(["waiting", "active", "done", "present"]),
  /** Bytes. */
  done: z.number(),
  total: z.number().nullable(),
});
export type OperationPart = z.output<typeof operationPart>;

/** The newest of what the work's commands write, while they run. */
export const operationOutput = z.object({
  /** All lines so far, those of the tail included. */
  lines: z.int(),
  tail: z.array(z.string()),
});
export type OperationOutput = z.output<typeof operationOutput>;

export const operationWait = z.object({
  /** capacity: memory and CPUs for a VM; boot: a core for a boot. */
  for: z.enum(["capacity", "boot"]),
  position: z.int(),
  ms: z.number().nullable(),
});
export type OperationWait = z.output<typeof operationWait>;

export const operationView = z
  .object({
    id: z.string(),
    kind: z.enum(OPERATION_KINDS),
    key: z.string(),
    subject: z.string(),
    state: z.enum(OPERATION_STATES),
    phase: z.string().nullable(),
    position: z.int().nullable(),
    progress: progress.nullable(),
    /** While an image is fetched: its layers, the lowest first. Else empty. */
    parts: z.array(operationPart).default([]),
    /** While an image is customized: what its commands write. */
    output: operationOutput.nullable().default(null),
    waiters: z.int(),
    joined: z.string().nullable(),
    /** The operation that asked for it; null where a caller did. */
    parent: z.string().nullable().default(null),
    /** Each queue it stood in: its place when it came, and how long; null while it stands there, or a crash has lost it. */
    waits: z.array(operationWait).default([]),
    startedAt: z.string(),
    finishedAt: z.string().nullable(),
    phases: z.array(z.object({ name: z.string(), ms: z.number() })),
    error: z.object({ code: z.string(), detail: z.string(), hint: z.string(), causes: z.array(z.string()) }).nullable(),
    /** What the operation made: a VM's id, an artifact's digest. */
    result: z.string().nullable(),
    /** What it has found, where that is more than a name. */
    report: operationReport.nullable().default(null),
  })
  .meta({ id: "Operation" });
export type OperationView = z.output<typeof operationView>;
