import type { VmId } from "@kiln/protocol";

/** A VM's own directory and what is in it. */
export interface VmDisks {
  directory(id: VmId): string;
  writableDiskPath(id: VmId): string;
  /** Makes the directory and, where it is missing, the writable disk; whole or not at all. Throws DISK_FULL. */
  prepare(id: VmId, options: { diskBytes: number; signal: AbortSignal }): Promise<void>;
  /** Removes the directory with all that is in it. Idempotent. */
  remove(id: VmId): Promise<void>;
  /** Ids of the directories that are there. */
  list(): Promise<readonly string[]>;
}
