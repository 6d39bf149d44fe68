import type { CheckedArtifact, Digest, Progress } from "@kiln/protocol";
import type { FileFingerprint } from "@kiln/std";
import type { ContentInfo, ResolvedImage } from "../images/ports.ts";
import type { RootfsRecord } from "../images/records.port.ts";
import type { KernelRecord } from "../kernels/records.port.ts";
import type { PrebootRecord } from "../snapshots/preboot.ts";

/** How an artifact is read: whoever paces it is awaited after each piece. */
export interface Reading {
  readonly signal: AbortSignal;
  readonly onRead: (bytes: number) => Promise<void> | void;
}

/** A file as it was while it was read. */
export interface ReadFile {
  readonly digest: Digest;
  readonly fingerprint: FileFingerprint;
}

export type ReadState = Pick<CheckedArtifact, "bytes" | "state">;

/** Reads artifacts in full, whatever is known of them (I7). It changes none, and trusts no fingerprint. */
export interface ArtifactReader {
  /** null where it is missing. */
  blob(digest: Digest, reading: Reading): Promise<ReadFile | null>;
  rootfs(key: string, reading: Reading): Promise<ReadFile | null>;
  kernel(record: KernelRecord, reading: Reading): Promise<ReadState>;
  preboot(record: PrebootRecord, reading: Reading): Promise<ReadState>;
  blobs(): AsyncIterable<ContentInfo>;
  /** When it got its name, in milliseconds since 1970; it was hashed then. null where it is missing. */
  storedAtMs(digest: Digest): number | null;
  /** Removes what was read, unless another file has the name by now; who has it open keeps it. Synchronous. Says whether it did. */
  removeBlobNow(digest: Digest, found: ReadFile): boolean;
}

interface BuildWatch {
  readonly signal: AbortSignal;
  readonly onPhase: (name: string) => void;
  readonly onProgress: (progress: Progress) => void;
}

export interface ComparedRootfs {
  /** Of the rootfs as the layers give it. */
  readonly digest: Digest;
  /** null where the published file is the same, or missing. */
  readonly difference: { readonly offset: number; readonly place: string } | null;
}

/** Builds a rootfs beside the published one. */
export interface RootfsChecks {
  /** The published one stays as it is; nothing of the other is left. */
  compare(image: ResolvedImage, key: string, watch: BuildWatch): Promise<ComparedRootfs>;
  /** Reads the new one back before it takes the name, so that a failure leaves the old one (I14); who has that one open keeps it. */
  rebuild(image: ResolvedImage, key: string, watch: BuildWatch): Promise<Pick<RootfsRecord, "digest" | "fingerprint">>;
}

/** When artifacts were last read in full and found whole. Synchronous. */
export interface CheckStore {
  /** Milliseconds since 1970; null where it never was. */
  checkedAtMs(artifact: Pick<CheckedArtifact, "kind" | "id">): number | null;
  putChecked(artifact: Pick<CheckedArtifact, "kind" | "id">, atMs: number): void;
  /** Forgets all but these. */
  keepChecked(artifacts: readonly Pick<CheckedArtifact, "kind" | "id">[]): void;
}
