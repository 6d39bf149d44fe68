import type { EventDraft } from "@kiln/protocol";
import type { VmRecord } from "../vms/record.ts";

/** A VM is in another state; `before` is null where it is new. */
export const vmEvent = (before: VmRecord | null, after: VmRecord): EventDraft => {
  const { id, name, state, epoch, operation } = after;
  const from = before?.state ?? null;
  const ended = state === "exited" || state === "failed" ? { exitCode: after.exitCode, signal: after.signal, error: after.error } : {};
  const made = before === null ? { image: after.image, memoryBytes: after.memoryBytes, cpus: after.cpus } : {};
  const began = state === "starting" ? { operation } : {};
  return { type: `vm.${state}`, subject: name, data: { id, from, epoch, ...made, ...began, ...ended } };
};

export const vmRemoved = ({ id, name, state, rootfsKey }: VmRecord): EventDraft => ({
  type: "vm.removed",
  subject: name,
  data: { id, from: state, rootfsKey },
});
