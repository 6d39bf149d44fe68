import type { Digest } from "@kiln/protocol";
import type { ContentLeases } from "../images/leases.ts";
import type { ImageStore } from "../images/records.port.ts";
import { blobsOf } from "./report.ts";

export interface BlobShelf {
  list(): AsyncIterable<{ readonly digest: Digest }>;
  /** Synchronous, so that no pull can begin between the decision and the deletion. */
  removeNow(digests: readonly Digest[]): void;
}

/** Removes blobs that no image names, unless some may be on their way to a name. Returns how many. */
export const collectContent = async (parts: { images: ImageStore; leases: ContentLeases; shelf: BlobShelf }): Promise<number> => {
  const present: Digest[] = [];
  for await (const { digest } of parts.shelf.list()) present.push(digest);
  if (!parts.leases.isIdle) return 0;
  const named = new Set<string>(parts.images.listImages().flatMap(blobsOf));
  const garbage = present.filter((digest) => !named.has(digest));
  parts.shelf.removeNow(garbage);
  return garbage.length;
};
