import type { Digest } from "@kiln/protocol";
import type { FileFingerprint } from "@kiln/std";

export interface KernelRecord {
  readonly key: string;
  /** For example "debian-cloud". */
  readonly name: string;
  readonly version: string;
  /** Where it came from: the package and its version. */
  readonly source: string;
  /** Identifies the agent and the builder that made it; a set of another one is not used for new VMs. */
  readonly builderDigest: string;
  /** sha256 of the set's manifest. */
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Of the set's files and its manifest as they were published, by name (I7); none in records of the first version. */
  readonly fingerprints?: Readonly<Record<string, FileFingerprint>>;
  readonly createdAt: string;
}

export interface KernelStore {
  putKernel(record: KernelRecord): void;
  getKernel(key: string): KernelRecord | null;
  /** Newest first. */
  listKernels(): readonly KernelRecord[];
  forgetKernel(key: string): void;
  isKernelInUse(key: string): boolean;
}
