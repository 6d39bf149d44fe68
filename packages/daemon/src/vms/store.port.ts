import type { VmId } from "@kiln/protocol";
import type { VmRecord } from "./record.ts";

/** What a start or a stop changes of a record. */
export type VmChange = Partial<
  Pick<
    VmRecord,
    | "state"
    | "epoch"
    | "bootId"
    | "startedAt"
    | "finishedAt"
    | "exitCode"
    | "signal"
    | "error"
    | "timings"
    | "vmm"
    | "driver"
    | "rootfsDigest"
  >
>;

/** Where VM records are kept. Synchronous: each call is one transaction of microseconds. */
export interface VmStore {
  /**
   * Name and slot in one transaction. Throws VM_NAME_TAKEN; IMAGE_NOT_FOUND where the rootfs or kernel was removed since it was resolved.
   */
  reserve(record: Omit<VmRecord, "slot">): VmRecord;
  get(id: VmId): VmRecord | null;
  /** By id, name, or an id's prefix that only one VM has. */
  find(reference: string): VmRecord | null;
  list(): readonly VmRecord[];
  /** Memory that starting, running, paused and stopping VMs hold together. */
  reservedMemoryBytes(): number;
  /**
   * Applies `change` if the VM is in one of `from`; throws VM_NOT_FOUND or VM_STATE_CONFLICT. With a capacity the
   * VM's memory is reserved in the same transaction, or CAPACITY_EXCEEDED thrown.
   */
  change(id: VmId, change: VmChange, guard: { from: readonly VmRecord["state"][]; capacityBytes?: number }): VmRecord;
  remove(id: VmId): void;
}
