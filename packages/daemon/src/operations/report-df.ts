import type { DfReport } from "@kiln/protocol";
import type { ImageRecord } from "../images/records.port.ts";
import type { Core } from "./core.ts";
import { blobsOfVms } from "./image-blobs.ts";
import { planPrune } from "./prune.ts";
import { blobsOf } from "./report-images.ts";
import type { HomeUsage, Measured } from "./usage.port.ts";

type Item = DfReport["items"][number];

/** How many users each thing has. */
class Users {
  readonly #counts = new Map<string, number>();

  add(name: string): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
  }

  of(name: string): number {
    return this.#counts.get(name) ?? 0;
  }
}

/** What the home holds, each file once, and what of it no record owns. Work in progress is no orphan. */
export const reportDf = async (core: Core, usage: HomeUsage): Promise<DfReport> => {
  const [blobs, rootfs, kernels, vms] = [await usage.content(), await usage.rootfs(), await usage.kernels(), await usage.vms()];
  const preboots = await usage.preboots();
  const images = core.images.listImages();
  const users = countUsers(core, images);
  for (const name of [...(await blobsOfVms(core, core.vms.list())).values()].flat()) users.add(name);
  const items: Item[] = [
    ...blobs.map((blob) => toItem({ kind: "blob", id: blob.digest }, blob, users)),
    ...rootfs.map((file) => toItem({ kind: "rootfs", id: file.key }, file, users)),
    ...kernels.map((set) => toItem({ kind: "kernel", id: set.key }, set, users)),
    ...preboots.map((one) => ({ ...toItem({ kind: "preboot", id: one.key }, one, users), uniqueBytes: one.diskBytes, inUse: true })),
    ...vms.map((vm) => ({ ...toItem({ kind: "vm", id: vm.id }, vm, users), uniqueBytes: vm.diskBytes, inUse: isRunning(core, vm.id) })),
    ...(await usage.other()).map((one) => ({ ...toItem({ kind: "other", id: one.name }, one, users), inUse: true })),
  ];
  const sizes = new Map(items.map((item) => [item.id, item.diskBytes]));
  const sum = (field: "bytes" | "diskBytes"): number => items.reduce((total, item) => total + item[field], 0);
  const free = async (all: boolean): Promise<number> => {
    const plan = await planPrune(core, usage, { vms: true, kernels: true, images: all });
    return plan.items.reduce((total, item) => total + item.diskBytes, 0);
  };
  return {
    items,
    images: images.map((image) => measureImage(core, image, { users, sizes })),
    total: { bytes: sum("bytes"), diskBytes: sum("diskBytes") },
    freeBytes: await usage.freeBytes(),
    reclaimable: { diskBytes: await free(false), allDiskBytes: await free(true) },
    orphans: await findOrphans(core, usage, { blobs, rootfs, kernels, preboots, vms, users }),
  };
};

const countUsers = (core: Core, images: readonly ImageRecord[]): Users => {
  const users = new Users();
  for (const image of images) for (const name of [image.rootfsKey, ...blobsOf(image)]) users.add(name);
  for (const vm of core.vms.list()) for (const name of [vm.rootfsKey, vm.kernelKey]) users.add(name);
  return users;
};

const toItem = ({ kind, id }: Pick<Item, "kind" | "id">, measured: Measured, users: Users): Item => ({
  ...{ kind, id, bytes: measured.bytes, diskBytes: measured.diskBytes },
  uniqueBytes: users.of(id) === 1 ? measured.diskBytes : 0,
  inUse: users.of(id) > 0,
});

const isRunning = (core: Core, id: string): boolean => core.running.get(id as never) !== null;

/** Two names of one image share all of it: removing one of them frees nothing. */
const measureImage = (
  core: Core,
  image: ImageRecord,
  { users, sizes }: { users: Users; sizes: ReadonlyMap<string, number> },
): DfReport["images"][number] => {
  const parts = [image.rootfsKey, ...blobsOf(image)].map((name) => ({ bytes: sizes.get(name) ?? 0, isShared: users.of(name) > 1 }));
  const bytes = (list: readonly { bytes: number }[]): number => list.reduce((sum, part) => sum + part.bytes, 0);
  return {
    reference: image.reference,
    digest: image.image.manifestDigest,
    diskBytes: bytes(parts),
    uniqueBytes: bytes(parts.filter((part) => !part.isShared)),
    sharedBytes: bytes(parts.filter((part) => part.isShared)),
    vms: core.vms.list().filter((vm) => vm.rootfsKey === image.rootfsKey).length,
  };
};

interface Found {
  readonly blobs: readonly (Measured & { digest: string })[];
  readonly rootfs: readonly (Measured & { key: string })[];
  readonly kernels: readonly (Measured & { key: string })[];
  readonly preboots: readonly (Measured & { key: string })[];
  readonly vms: readonly (Measured & { id: string })[];
  readonly users: Users;
}

const findOrphans = async (core: Core, usage: HomeUsage, found: Found): Promise<string[]> => {
  // what is being written has no record yet
  if (core.operations.count("running") > 0 || core.leases.active > 0) return [];
  const known = new Set<string>(core.vms.list().map((vm) => vm.id));
  const orphans = [
    ...found.blobs.filter(({ digest }) => found.users.of(digest) === 0 && !core.leases.isHeld(digest)),
    ...found.rootfs.filter(({ key }) => core.images.getRootfs(key) === null),
    ...found.kernels.filter(({ key }) => core.kernels.getKernel(key) === null),
    ...found.preboots.filter(({ key }) => core.preboots?.has(key) === false),
    ...found.vms.filter(({ id }) => !known.has(id)),
  ];
  // what was removed while it was measured is none
  const still = await usage.existing(orphans.map(({ path }) => path));
  return [...still, ...(await usage.staging())];
};
