import type { SavedVmm, SaveTarget } from "../vms/driver.port.ts";

/** What a saved memory holds: everything outside of the extents is zero. */
export interface MemoryMap {
  readonly bytes: number;
  /** Offset and length, ascending, without overlap. */
  readonly extents: readonly (readonly [offset: number, length: number])[];
  /** In hex, of the extents' bytes one after the other. */
  readonly sha256: string;
}

/**
 * A pre-boot snapshot: a guest that was saved when its agent had answered and before it had looked at a disk of an image
 * or been given an address. VMs of its shape start from it, whatever their image.
 */
export interface PrebootRecord {
  /** 64 hex digits: all that it depends on, as the driver names it. Another daemon, VMM or host has another key. */
  readonly key: string;
  readonly kernelKey: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly map: MemoryMap;
  /** The state of processors and devices. */
  readonly state: { readonly size: number; readonly sha256: string };
  /** On the disk. */
  readonly diskBytes: number;
  readonly createdAt: string;
}

export interface PrebootStore {
  putPreboot(record: PrebootRecord): void;
  getPreboot(key: string): PrebootRecord | null;
  /** Newest first. */
  listPreboots(): readonly PrebootRecord[];
  forgetPreboot(key: string, reason: string): void;
}

/** A snapshot that VMs can start from until it is let go of. */
export type OpenPreboot = SavedVmm & Disposable & { readonly record: PrebootRecord };

/** The files of pre-boot snapshots in this home. */
export interface PrebootFiles {
  /**
   * `save` writes a guest to the target, with a directory of its own for its VMM; `verify` starts another from what was
   * saved. Both done, it is published. A failure leaves nothing.
   */
  build(
    key: string,
    steps: {
      readonly save: (target: SaveTarget, directory: string) => Promise<void>;
      readonly verify: (saved: SavedVmm, directory: string) => Promise<void>;
    },
    options: { signal: AbortSignal },
  ): Promise<Pick<PrebootRecord, "map" | "state" | "diskBytes">>;
  /** Throws ARTIFACT_DAMAGED where a file is missing, short or changed (I7, I34). */
  open(record: PrebootRecord, options: { signal: AbortSignal }): Promise<OpenPreboot>;
  /** Who has it open keeps it. Idempotent. */
  removeNow(key: string): void;
}
