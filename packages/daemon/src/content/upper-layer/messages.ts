/** What the packing thread is started with. The files are open for reading and belong to the one who asks. */
export interface PackJob {
  readonly disk: { readonly fd: number; readonly sizeBytes: number };
  /** The file system below the disk's. */
  readonly rootfs: { readonly fd: number; readonly sizeBytes: number };
}

/** What was packed. */
export interface Packed {
  /** "sha256:…" of the tar. */
  readonly diffId: string;
}

/** An error as it crosses threads. */
export interface PackFailure {
  /** disk: what the guest has left there cannot be read, or is more than is allowed; defect: all else. */
  readonly kind: "disk" | "defect";
  readonly message: string;
}

export type PackMessage =
  | { readonly type: "chunk"; readonly bytes: Uint8Array; readonly unpackedBytes: number }
  /** The end; null where nothing was written, and no chunk came. */
  | { readonly type: "packed"; readonly packed: Packed | null }
  | { readonly type: "failed"; readonly failure: PackFailure };
