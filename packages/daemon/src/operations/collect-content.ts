import type { Digest } from "@kiln/protocol";
import type { ContentLeases } from "../images/leases.ts";
import type { ImageStore } from "../images/records.port.ts";
import { blobsOf } from "./report-images.ts";

export interface BlobShelf {
  list(): AsyncIterable<{ readonly digest: Digest }>;
  /** Synchronous, so that no lease can begin between the decision and the deletion. Returns the bytes on the disk that it had. */
  removeNow(digest: Digest): number;
}

/**
 * Mark and sweep: removes blobs that no image names and no lease holds. Names and leases are asked after the list is
 * whole, in the turn in which the blobs go.
 */
export const collectContent = async (parts: {
  images: ImageStore;
  leases: ContentLeases;
  blobs: BlobShelf;
}): Promise<readonly { digest: Digest; diskBytes: number }[]> => {
  const present: Digest[] = [];
  for await (const { digest } of parts.blobs.list()) present.push(digest);
  const named = new Set<string>(parts.images.listImages().flatMap(blobsOf));
  return present
    .filter((digest) => !named.has(digest) && !parts.leases.isHeld(digest))
    .map((digest) => ({ digest, diskBytes: parts.blobs.removeNow(digest) }));
};
