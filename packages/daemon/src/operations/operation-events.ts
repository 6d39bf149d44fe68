import type { EventDraft, OperationView } from "@kiln/protocol";

/** What the journal says of a change of an operation; null for what is no more than progress. */
export const operationEvent = (before: OperationView | null, after: OperationView): EventDraft | null => {
  const { id, kind, subject, joined, parent } = after;
  if (before === null) return { type: "operation.begun", subject, data: { id, kind, key: after.key, joined, parent } };
  if (after.finishedAt !== null) {
    const type = after.state === "succeeded" || after.state === "cancelled" ? after.state : "failed";
    const { phases, waits, result, error } = after;
    const ms = Date.parse(after.finishedAt) - Date.parse(after.startedAt);
    return { type: `operation.${type}`, subject, data: { id, kind, joined, ms, phases, waits, result, error } };
  }
  const wait = after.waits.at(-1);
  if (before.state === after.state || wait === undefined) return null;
  if (after.state === "queued") return { type: "operation.queued", subject, data: { id, kind, for: wait.for, position: wait.position } };
  return { type: "operation.admitted", subject, data: { id, kind, for: wait.for, ms: wait.ms } };
};

export const resumedEvent = ({ id, kind, subject }: OperationView): EventDraft => ({
  type: "operation.resumed",
  subject,
  data: { id, kind },
});
