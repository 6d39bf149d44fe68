import type { VmId } from "@kiln/protocol";

/** A VM's own directory and what is in it. */
export interface VmDisks {
  directory(id: VmId): string;
  writableDiskPath(id: VmId): string;
  /**
   * Makes the directory and, before the first boot, the writable disk; whole or not at all. Throws DISK_FULL, and
   * ARTIFACT_DAMAGED where a disk that was there is not, or is another: a VM does not lose what it wrote without a word.
   */
  prepare(id: VmId, options: { diskBytes: number; signal: AbortSignal }): Promise<void>;
  /** Notes where the VMM of this VM was started, since its process cannot say that it is this VM's. */
  linkVmmNow(id: VmId, directory: string): void;
  /** Removes the directory with all that is in it. Idempotent. */
  remove(id: VmId): Promise<void>;
  /** Ids of the directories that are there. */
  list(): Promise<readonly string[]>;
}
