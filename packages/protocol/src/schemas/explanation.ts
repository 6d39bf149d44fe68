import { z } from "zod";
import { kilnEvent } from "./event.ts";
import { operationView, operationWait } from "./operation.ts";

const operationName = z.object({ id: z.string(), kind: z.string(), subject: z.string() });

const share = z.object({
  total: z.int(),
  reserved: z.int(),
  /** What it needs; null where it is about nothing in particular. */
  wanted: z.int().nullable(),
});

/** Why a thing is as it is: what it waited for, whose work it shared, what holds it, and what became of it. */
export const explanation = z.object({
  kind: z.enum(["vm", "operation", "image", "content", "gone"]),
  /** null for what is gone without a trace of it. */
  id: z.string().nullable(),
  name: z.string(),
  state: z.string().nullable(),
  /** In sentences: what is so now, and the next step. */
  summary: z.array(z.string()),
  error: operationView.shape.error,
  /** Places in queues, when it came and how long it stood there; so far, where `state` is waiting. */
  waits: z.array(operationWait.extend({ operation: operationName, state: z.enum(["waiting", "over"]) })),
  /** Work that somebody else had begun, and for how long it was waited for. */
  joined: z.array(z.object({ work: operationName, by: operationName.nullable(), state: z.enum(["waiting", "over"]), ms: z.number() })),
  capacity: z.object({ memoryBytes: share, cpus: share, diskBytes: share, waiting: z.int() }).nullable(),
  /** Who keeps it, or what it stands on, from being removed. */
  heldBy: z.array(
    z.object({
      kind: z.enum(["vm", "image", "operation", "lease"]),
      /** A VM's or an operation's id, an image's name; null for a lease of nobody who is still there. */
      id: z.string().nullable(),
      name: z.string(),
      /** What of it is held: the image, its rootfs, a blob. */
      what: z.string(),
    }),
  ),
  /** Its own and those that were begun for them, the oldest first. */
  operations: z.array(operationView),
  /** The newest, the oldest of them first. */
  events: z.array(kilnEvent),
});
export type Explanation = z.output<typeof explanation>;
