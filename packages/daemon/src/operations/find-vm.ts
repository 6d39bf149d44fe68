import { KilnError } from "@kiln/protocol";
import type { VmRecord } from "../vms/record.ts";
import type { VmStore } from "../vms/store.port.ts";

/** By id, unique prefix or name. Throws VM_NOT_FOUND. */
export const getVm = (vms: VmStore, reference: string): VmRecord => {
  const record = vms.find(reference);
  if (record === null) throw new KilnError("VM_NOT_FOUND", `there is no VM ${reference}`, { object: reference });
  return record;
};
