import type { Digest } from "@kiln/protocol";
import type { ImageRecord } from "../images/records.port.ts";
import type { VmRecord } from "../vms/record.ts";
import type { Core } from "./core.ts";
import { findContent } from "./derive-image.ts";

type Made = Pick<VmRecord, "image" | "imageDigest" | "rootfsKey">;

/** The image of which a rootfs can be built: one that has a name, else that of a VM, whose blobs stay as long as the VM does. null where there is none. */
export const imageOfRootfs = async (
  core: Core,
  key: string,
  { vms, signal }: { readonly vms: readonly Made[]; readonly signal: AbortSignal },
): Promise<ImageRecord | null> => {
  const named = core.images.listImages().find((one) => one.rootfsKey === key);
  const vm = vms.find((one) => one.rootfsKey === key);
  if (named !== undefined || vm === undefined) return named ?? null;
  using lease = core.leases.begin();
  const root = vm.imageDigest as Digest;
  const image = await findContent(core, { reference: vm.image, manifest: root }, { lease, signal });
  const record = image === null ? null : core.pipeline.imageRecord(vm.image, { image, root });
  // an older Kiln has written the rootfs, and this one would write another
  return record?.rootfsKey === key ? record : null;
};
