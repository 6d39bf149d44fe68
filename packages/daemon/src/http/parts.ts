import type { BundleManifest, Digest, DoctorReport } from "@kiln/protocol";
import type { ContentInfo, OpenContent } from "../images/ports.ts";
import type { ImageRecord, RootfsRecord } from "../images/records.port.ts";
import type { ImportPlan } from "../images/import-plan.ts";
import type { Core } from "../operations/core.ts";
import type { DaemonFacts } from "../operations/report.ts";
import type { HomeUsage } from "../operations/usage.port.ts";
import type { RequestStore } from "./requests.port.ts";

export interface BlobReceiver {
  has(digest: Digest): Promise<boolean>;
  /** Throws IMAGE_CONTENT_MISSING. */
  open(digest: Digest): Promise<OpenContent>;
  /** Throws CONTENT_DIGEST_MISMATCH, CONTENT_SIZE_MISMATCH, DISK_FULL; nothing is left then. */
  receive(digest: Digest, body: AsyncIterable<Uint8Array>, options: { size: number | null; signal: AbortSignal }): Promise<void>;
  /** The same for bytes whose digest the sender does not know. */
  receiveUnnamed(body: AsyncIterable<Uint8Array>, options: { size: number | null; signal: AbortSignal }): Promise<ContentInfo>;
}

/** Images as files that another home can take in. */
export interface Bundles {
  /** Reads a bundle to its end; its rootfs is in the content store then, for a while. Throws BUNDLE_INVALID, and as `receive`. */
  receive(body: AsyncIterable<Uint8Array>, options: { signal: AbortSignal }): Promise<BundleManifest>;
  /** The bundle of an image whose rootfs is built. The same image gives the same bytes. Throws ARTIFACT_DAMAGED while it is read. */
  write(image: ImageRecord, rootfs: RootfsRecord, options: { signal: AbortSignal }): AsyncIterable<Uint8Array>;
}

export interface ImageImporter {
  plan(
    request: { reference: string; root: string; tag: string | null; platform: string | null },
    options: { signal: AbortSignal },
  ): Promise<ImportPlan>;
}

/** What the routes need beyond the core; given by main. */
export interface ApiParts {
  readonly core: Core;
  readonly facts: DaemonFacts;
  readonly usage: HomeUsage;
  readonly blobs: BlobReceiver;
  readonly importer: ImageImporter;
  readonly bundles: Bundles;
  readonly requests: RequestStore;
  readonly examine: (options: { signal: AbortSignal }) => Promise<DoctorReport>;
  readonly failpoints: () => readonly string[];
  /** Ends the daemon after the answer was sent; VMs run on. */
  readonly stop: () => void;
}
