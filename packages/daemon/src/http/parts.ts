import type { Digest, DoctorReport } from "@kiln/protocol";
import type { OpenContent } from "../images/ports.ts";
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
  readonly requests: RequestStore;
  readonly examine: (options: { signal: AbortSignal }) => Promise<DoctorReport>;
  readonly failpoints: () => readonly string[];
  /** Ends the daemon after the answer was sent; VMs run on. */
  readonly stop: () => void;
}
