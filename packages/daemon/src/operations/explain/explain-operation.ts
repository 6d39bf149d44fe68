import type { Explanation, OperationView, VmId } from "@kiln/protocol";
import type { Core } from "../core.ts";
import { capacityFor, describeWork } from "./explain-vm.ts";
import { eventsOf, type History, historyOf, joinedOf, waitsOf, withDescendants } from "./history.ts";

export const explainOperation = (core: Core, operation: OperationView): Explanation => {
  const history = historyOf(core);
  const operations = withDescendants(history, [operation]);
  const events = eventsOf(
    core,
    operations.map(({ id }) => id),
  );
  const waits = waitsOf(history, operations, events);
  const joined = joinedOf(history, operations);
  const { id, kind, subject, state, error } = operation;
  const isOfVm = kind.startsWith("vm.");
  return {
    ...{ kind: "operation", id, name: `${kind} ${subject}`, state },
    summary: [...describeEnd(operation), ...describeWork([operation], { waits, joined }), ...describeOthers(history, operation)],
    ...{ error, waits, joined },
    capacity: isOfVm ? capacityFor(core, core.vms.get(operation.key as VmId)) : null,
    ...{ heldBy: [], operations },
    events: [...events],
  };
};

const describeEnd = ({ kind, subject, state, error, finishedAt, startedAt, phases }: OperationView): string[] => {
  if (finishedAt === null) return [];
  const ms = Date.parse(finishedAt) - Date.parse(startedAt);
  const last = phases.at(-1)?.name;
  const at = state === "succeeded" || last === undefined ? "" : ` at ${last}`;
  const why = error === null ? "" : `: ${error.detail}`;
  return [
    `${kind} of ${subject} ${state === "succeeded" ? "succeeded" : state === "cancelled" ? "was cancelled" : "failed"}${at} after ${ms} ms${why}.`,
  ];
};

/** For whom it is, who shares it, and how often daemons have taken it up. */
const describeOthers = ({ all }: History, { id, parent, joined }: OperationView): string[] => {
  const asker = all.find((one) => one.id === parent);
  const joiners = all.filter((one) => one.joined === id && one.parent !== null);
  const names = joiners.map((one) => all.find((other) => other.id === one.parent)?.subject ?? one.parent);
  return [
    ...(asker === undefined ? [] : [`It was begun for ${asker.kind} of ${asker.subject} (${asker.id}).`]),
    ...(joined === null ? [] : [`It shares the work of ${joined}.`]),
    ...(names.length === 0
      ? []
      : [`${names.length} more joined it: ${names.slice(0, SHOWN_JOINERS).join(", ")}${names.length > SHOWN_JOINERS ? ", …" : ""}.`]),
  ];
};

const SHOWN_JOINERS = 5;
