import type { Digest } from "@kiln/protocol";
import { planImport } from "../images/import-plan.ts";
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

/** What the images of these VMs are made of, by the manifest's digest, where no name leads to them. Blobs that are gone already are not among them. */
export const blobsOfVms = async (core: Needed, vms: readonly VmRecord[]): Promise<ReadonlyMap<string, readonly string[]>> => {
  const signal = new AbortController().signal;
  const found = new Map<string, readonly string[]>();
  for (const { image, imageDigest } of unnamed(core, vms)) {
    const root = imageDigest as Digest;
    const request = { reference: image, root, tag: null, platform: core.platform };
    const plan = await planImport(request, core.content, { signal });
    found.set(imageDigest, plan.state === "complete" ? blobsOf({ root, image: plan.image }) : []);
  }
  return found;
};

/** Whether `blobs` still has the images of all of them: names have moved and VMs have come while it was made. */
export const hasBlobsOf = (core: Pick<Core, "images">, vms: readonly VmRecord[], blobs: ReadonlyMap<string, unknown>): boolean =>
  unnamed(core, vms).every(({ imageDigest }) => blobs.has(imageDigest));
