import type { KilnError, VmId } from "@kiln/protocol";
import type { PublishedPort } from "./ports.ts";
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
    | "startPath"
    | "startReason"
    | "vmm"
    | "driver"
    | "rootfsDigest"
    | "operation"
  >
>;

/** What all VMs of a home may hold together. */
export interface Capacity {
  readonly memoryBytes: number;
  readonly cpus: number;
}

export type Claim =
  | { readonly state: "claimed"; readonly record: VmRecord }
  /** `ever`: whether there is room once others have given back theirs. */
  | { readonly state: "no room"; readonly ever: boolean; readonly error: KilnError };

/** Where VM records are kept. Synchronous: each call is one transaction of microseconds. */
export interface VmStore {
  /**
   * Name, slot and disk in one transaction. Throws CAPACITY_EXCEEDED past `diskBytes`. Throws VM_NAME_TAKEN; PORT_IN_USE; IMAGE_NOT_FOUND where the rootfs or kernel was removed since it was resolved.
   */
  reserve(record: Omit<VmRecord, "slot">, capacity: { diskBytes: number }): VmRecord;
  get(id: VmId): VmRecord | null;
  /** By id, name, or an id's prefix that only one VM has. */
  find(reference: string): VmRecord | null;
  list(): readonly VmRecord[];
  /** What starting, running, paused and stopping VMs hold together, and the disks of all. */
  reserved(): Capacity & { readonly diskBytes: number };
  /** Applies `change` if the VM is in one of `from`; throws VM_NOT_FOUND or VM_STATE_CONFLICT. */
  change(id: VmId, change: VmChange, guard: { from: readonly VmRecord["state"][] }): VmRecord;
  /** What it has published from here on. Throws PORT_IN_USE where an address belongs to another VM; VM_NOT_FOUND. */
  setPorts(id: VmId, ports: readonly PublishedPort[]): VmRecord;
  /** The same for a change after which the VM holds memory and CPUs: if there is room, in the same transaction. */
  claim(id: VmId, change: VmChange, guard: { from: readonly VmRecord["state"][]; capacity: Capacity }): Claim;
  remove(id: VmId): void;
}
