import type { ContentLease, ImageLayer } from "./ports.ts";

/** The writable disk of a VM that does not run. What is on it is the guest's: hostile. */
export interface WrittenDisk {
  readonly path: string;
  /** The rootfs that it lies over; tells what of it was there before. */
  readonly rootfs: string;
  /** For people: whose it is. */
  readonly owner: string;
}

/** Makes layers of what VMs have written. */
export interface UpperLayers {
  /**
   * What was written, as a layer in the content store that the lease holds; null where that is nothing, or the disk was
   * never made. The same tree gives the same layer. Returns when its thread has ended.
   * Throws LAYER_INVALID for a disk that cannot be read, DISK_FULL, or the signal's reason.
   */
  pack(
    disk: WrittenDisk,
    options: { readonly lease: ContentLease; readonly signal: AbortSignal; readonly onProgress: (bytes: number) => void },
  ): Promise<Omit<ImageLayer, "mediaType" | "format"> | null>;
}

/** The result of commands that were run once. JSON. */
export interface CustomizationRecord {
  /** Names all that the result depends on. */
  readonly key: string;
  /** The digest of the image's manifest. */
  readonly manifest: string;
  readonly createdAt: string;
}

/** Which image came of which commands. Synchronous. */
export interface CustomizationStore {
  getCustomization(key: string): CustomizationRecord | null;
  /** Replaces what was known under the key; of many, the oldest are forgotten. */
  putCustomization(record: CustomizationRecord): void;
}
