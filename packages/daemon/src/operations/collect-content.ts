import type { Digest } from "@kiln/protocol";
import type { Core } from "./core.ts";
import { blobsOfVms, hasBlobsOf } from "./image-blobs.ts";
import { blobsOf } from "./report-images.ts";

export interface BlobShelf {
  list(): AsyncIterable<{ readonly digest: Digest }>;
  /** Synchronous, so that no lease can begin between the decision and the deletion. Returns the bytes on the disk that it had. */
  removeNow(digest: Digest): number;
}

/**
 * Mark and sweep: removes blobs that no image names, no VM was made from, and no lease holds. Names, VMs and leases are
 * asked after the list is whole, in the turn in which the blobs go.
 */
export const collectContent = async (
  core: Pick<Core, "images" | "leases" | "blobs" | "vms" | "content" | "platform">,
): Promise<readonly { digest: Digest; diskBytes: number }[]> => {
  const present: Digest[] = [];
  for await (const { digest } of core.blobs.list()) present.push(digest);
  const ofVms = await blobsOfVms(core, core.vms.list());
  // a name has moved away from the image of a VM meanwhile: the next sweep knows of it
  if (!hasBlobsOf(core, core.vms.list(), ofVms)) return [];
  const named = new Set<string>([...core.images.listImages().flatMap(blobsOf), ...[...ofVms.values()].flat()]);
  return present
    .filter((digest) => !named.has(digest) && !core.leases.isHeld(digest))
    .map((digest) => ({ digest, diskBytes: core.blobs.removeNow(digest) }));
};
