import type { Digest } from "@kiln/protocol";
import { planImport } from "../images/import-plan.ts";
import type { ContentReader } from "../images/ports.ts";
import type { VmRecord } from "../vms/record.ts";
import type { Core } from "./core.ts";
import { blobsOf } from "./report-images.ts";

type Needed = Pick<Core, "images" | "content" | "platform">;

/** The images of VMs that no name leads to any more: a VM can become an image as long as it is there. */
const unnamed = (core: Pick<Core, "images">, vms: readonly VmRecord[]): readonly VmRecord[] => {
  const named = new Set<string>(core.images.listImages().map(({ image }) => image.manifestDigest));
  const byDigest = new Map(vms.map((vm) => [vm.imageDigest, vm]));
  return [...byDigest.values()].filter((vm) => !named.has(vm.imageDigest));
};

/**
 * What the images of these VMs are made of, by the manifest's digest, where no name leads to them; nothing of those of which blobs are gone
 * already. Of one that cannot be understood, since a blob of it is damaged or goes meanwhile, it is what was found of it: that is no reason
 * for anything else to stay.
 */
export const blobsOfVms = async (core: Needed, vms: readonly VmRecord[]): Promise<ReadonlyMap<string, readonly string[]>> => {
  const signal = new AbortController().signal;
  const found = new Map<string, readonly string[]>();
  for (const { image, imageDigest } of unnamed(core, vms)) {
    const root = imageDigest as Digest;
    const request = { reference: image, root, tag: null, platform: core.platform };
    const seen = new Set<Digest>();
    const watched: ContentReader = {
      stat: (digest) => {
        seen.add(digest);
        return core.content.stat(digest);
      },
      read: (digest, options) => core.content.read(digest, options),
    };
    try {
      const plan = await planImport(request, watched, { signal });
      const isDamaged = plan.state === "incomplete" && plan.missing.some((one) => one.isDamaged === true);
      found.set(imageDigest, plan.state === "complete" ? blobsOf({ root, image: plan.image }) : isDamaged ? [...seen] : []);
    } catch {
      // who uses the image is told why; a sweep goes on
      found.set(imageDigest, [...seen]);
    }
  }
  return found;
};

/** Whether `blobs` still has the images of all of them: names have moved and VMs have come while it was made. */
export const hasBlobsOf = (core: Pick<Core, "images">, vms: readonly VmRecord[], blobs: ReadonlyMap<string, unknown>): boolean =>
  unnamed(core, vms).every(({ imageDigest }) => blobs.has(imageDigest));
