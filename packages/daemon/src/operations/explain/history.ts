import type { Explanation, KilnEvent, OperationView } from "@kiln/protocol";
import type { Core } from "../core.ts";
import { OPERATION_LIMITS } from "../limits.ts";

/** All operations that are remembered, and what happened to some of them. */
export interface History {
  readonly nowMs: number;
  readonly all: readonly OperationView[];
}

export type Part<Field extends keyof Explanation> = Explanation[Field];

export const historyOf = (core: Core): History => ({ nowMs: core.clock.now(), all: core.operations.list({ all: true }) });

const nameOf = ({ id, kind, subject }: OperationView): { id: string; kind: string; subject: string } => ({ id, kind, subject });

/** Those, and what was begun for them and for that, the oldest first. */
export const withDescendants = ({ all }: History, roots: readonly OperationView[]): OperationView[] => {
  const ids = new Set(roots.map(({ id }) => id));
  const children = Map.groupBy(all, ({ parent }) => parent ?? "");
  for (const id of ids) for (const child of children.get(id) ?? []) ids.add(child.id);
  return all.filter(({ id }) => ids.has(id)).toReversed();
};

const sinceMs = ({ nowMs }: History, { startedAt, finishedAt }: OperationView): number =>
  (finishedAt === null ? nowMs : Date.parse(finishedAt)) - Date.parse(startedAt);

/** How long one that stands in a queue has stood there: the journal says when it came. */
const standingMs = (history: History, { id }: OperationView, events: readonly KilnEvent[]): number | null => {
  const came = events.findLast((event) => event.type === "operation.queued" && event.data["id"] === id);
  return came === undefined ? null : history.nowMs - Date.parse(came.time);
};

export const waitsOf = (history: History, operations: readonly OperationView[], events: readonly KilnEvent[]): Part<"waits"> =>
  operations.flatMap((operation) =>
    operation.waits.map((wait, index) => {
      const stands = operation.state === "queued" && index === operation.waits.length - 1;
      const ms = stands ? standingMs(history, operation, events) : wait.ms;
      return { ...wait, ms, operation: nameOf(operation), state: stands ? ("waiting" as const) : ("over" as const) };
    }),
  );

const WORK: ReadonlySet<OperationView["kind"]> = new Set(["image.pull", "blob.fetch", "rootfs.build", "kernel.build"]);

export const joinedOf = (history: History, operations: readonly OperationView[]): Part<"joined"> => {
  const byId = new Map(history.all.map((one) => [one.id, one]));
  return operations.flatMap((joiner) => {
    if (joiner.joined === null || !WORK.has(joiner.kind)) return [];
    const work = byId.get(joiner.joined) ?? { ...joiner, id: joiner.joined, parent: null };
    const by = work.parent === null ? undefined : byId.get(work.parent);
    const state = joiner.finishedAt === null ? ("waiting" as const) : ("over" as const);
    return [{ work: nameOf(work), by: by === undefined ? null : nameOf(by), state, ms: sinceMs(history, joiner) }];
  });
};

/** What happened to objects with these ids. */
export const eventsOf = ({ events }: Core, ids: readonly string[]): readonly KilnEvent[] =>
  events.about(ids, { limit: OPERATION_LIMITS.explainedEvents });

/** What keeps a name that a lease can hold: a rootfs key or a blob's digest. */
export const leasesOn = (core: Core, { all }: History, held: { name: string; what: string }): Part<"heldBy"> => {
  const { owners, lingers } = core.leases.holders(held.name);
  const byOperation = [...new Set(owners)].map((owner) => {
    const operation = all.find(({ id }) => id === owner);
    const name = operation === undefined ? "work that is storing something" : `${operation.kind} ${operation.subject}`;
    return { kind: "operation" as const, id: owner === "" ? null : owner, name, what: held.what };
  });
  const afterwards = { kind: "lease" as const, id: null, name: "kept some minutes for whoever tries again", what: held.what };
  return lingers ? [...byOperation, afterwards] : byOperation;
};
