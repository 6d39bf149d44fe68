import type { RootfsLimits } from "./limits.ts";
import type { LayerSource } from "./layer-stream.ts";

/** What the building thread is started with. The file is open for reading and writing, and belongs to the one who asks. */
export interface BuildJob {
  readonly fd: number;
  /** Where it lies. */
  readonly directory: string;
  /** Bottom to top. */
  readonly layers: readonly LayerSource[];
  /** 64 hex digits or any other string: UUID and hash seed derive from it. */
  readonly key: string;
  readonly limits: RootfsLimits;
}

export interface BuiltRootfs {
  readonly sizeBytes: number;
  /** "sha256:…" of the whole file. */
  readonly digest: string;
  /** Files, directories and all else, the root included. */
  readonly inodes: number;
}

/** An error as it crosses threads. */
export interface BuildFailure {
  readonly kind: "layer" | "too-large" | "system" | "defect";
  /** The path of the layer it is about; null where it is about none. */
  readonly layer: string | null;
  readonly name: string;
  readonly message: string;
  readonly code: string | null;
}

export type BuildMessage =
  | { readonly type: "progress"; readonly done: number; readonly total: number }
  /** Every byte is with the kernel; the digest is still to come. */
  | { readonly type: "written" }
  | { readonly type: "built"; readonly rootfs: BuiltRootfs }
  | { readonly type: "failed"; readonly failure: BuildFailure };
