import type { Digest, Progress } from "@kiln/protocol";
import type { FileFingerprint } from "@kiln/std";
import type { ResolvedImage } from "../images/ports.ts";
import type { RootfsRecord } from "../images/records.port.ts";
import type { KernelRecord } from "../kernels/records.port.ts";
import type { KernelFiles } from "../vms/driver.port.ts";

interface BuildOptions {
  readonly signal: AbortSignal;
  readonly onPhase: (name: string) => void;
  readonly onProgress: (progress: Progress) => void;
}

/** Whether all blobs of an image are in the content store. */
export interface ImageContent {
  isComplete(image: ResolvedImage): Promise<boolean>;
}

/** The rootfs files of this home. */
export interface RootfsFiles {
  path(key: string): string;
  /** Builds and publishes; a damaged file of the same key is replaced, a VM that has it open keeps the old one. */
  build(image: ResolvedImage, key: string, options: BuildOptions): Promise<{ digest: Digest; fingerprint: FileFingerprint }>;
  /** Compares the fingerprint; where it differs, the hash. False: missing or changed (I7). */
  isWhole(record: RootfsRecord, options: { signal: AbortSignal }): Promise<boolean>;
  /** Synchronous, so that no build can begin between the decision and the deletion. Returns the bytes on the disk that it had. */
  removeNow(key: string): number;
}

export interface BootFiles extends KernelFiles {
  readonly modulesImage: string;
  /** Modules to load before disks and overlay can be used, in order. */
  readonly setupModules: readonly string[];
  /** To load for a NIC, in order. */
  readonly networkModules: readonly string[];
}

/** The kernel sets of this home. */
export interface KernelSets {
  /** Changes with the agent and the builder. */
  builderDigest(): Promise<string>;
  /** Resolves the package, fetches it, builds the set and publishes it. */
  build(options: BuildOptions): Promise<KernelRecord>;
  isWhole(record: KernelRecord, options: { signal: AbortSignal }): Promise<boolean>;
  remove(key: string): Promise<void>;
  /** What a boot needs of a set. */
  open(key: string): Promise<BootFiles>;
}
