import { z } from "zod";
import { VM_STATES } from "./vm.ts";

/** What happened, in words of one kind: what it happened to, a dot, and what happened. */
export const EVENT_TYPES = [
  ...VM_STATES.map((state) => `vm.${state}` as const),
  "vm.removed",
  /** A daemon has taken over a VM that another one had started. */
  "vm.adopted",
  "operation.begun",
  "operation.queued",
  "operation.admitted",
  /** A daemon goes on with what another one had begun. */
  "operation.resumed",
  "operation.succeeded",
  "operation.failed",
  "operation.cancelled",
  "image.recorded",
  "image.tagged",
  "image.removed",
  "rootfs.built",
  "rootfs.removed",
  "kernel.built",
  "kernel.removed",
  "preboot.built",
  "preboot.removed",
  /** It was read in full, and is missing or has other bytes than it should. */
  "artifact.damaged",
  /** Files that no record needed are gone. */
  "content.swept",
  /** The system was not what the records said, and now they agree. */
  "drift.repaired",
  "daemon.started",
  "daemon.stopping",
] as const;
export type EventType = (typeof EVENT_TYPES)[number];

/** In place of events that a client asked for and that are forgotten; it is in no journal. */
export const TRUNCATED = "truncated";

export const kilnEvent = z.object({
  /** The cursor: counts up in a home, over daemons. */
  seq: z.int(),
  time: z.string(),
  type: z.enum([...EVENT_TYPES, TRUNCATED]),
  /** For people: a VM's name, an image's, what an operation is about. */
  subject: z.string(),
  /** `id` is the object's own; the rest by type. */
  data: z.record(z.string(), z.unknown()),
});
export type KilnEvent = z.output<typeof kilnEvent>;

/** What is to be written down; the journal adds the place and the time. */
export interface EventDraft {
  readonly type: EventType;
  readonly subject: string;
  readonly data: Readonly<Record<string, unknown>> & { readonly id: string | null };
}

/** `type=vm` stands for all of VMs. Values of one key are alternatives, the keys narrow each other. */
export interface EventFilter {
  readonly types: readonly string[];
  /** Names or ids. */
  readonly subjects: readonly string[];
}

export const matchesFilter = ({ types, subjects }: EventFilter, event: Pick<KilnEvent, "type" | "subject" | "data">): boolean =>
  (types.length === 0 || types.some((type) => event.type === type || event.type.startsWith(`${type}.`))) &&
  (subjects.length === 0 || subjects.some((subject) => event.subject === subject || event.data["id"] === subject));
