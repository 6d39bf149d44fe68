import { asKilnError, type Prune, type PruneReport, type VmId } from "@kiln/protocol";
import type { ImageRecord } from "../images/records.port.ts";
import type { KernelRecord } from "../kernels/records.port.ts";
import type { VmRecord } from "../vms/record.ts";
import { type Core, errorView } from "./core.ts";
import { blobsOfVms } from "./image-blobs.ts";
import { removeVm } from "./remove-vm.ts";
import { blobsOf } from "./report-images.ts";
import { sweepUnused } from "./sweep.ts";
import type { HomeUsage, Measured } from "./usage.port.ts";

type Removed = PruneReport["removed"][number];
type Failure = PruneReport["failures"][number];

const PRUNABLE: ReadonlySet<VmRecord["state"]> = new Set(["exited", "failed"]);

interface PrunePlan {
  readonly vms: readonly VmRecord[];
  readonly images: readonly ImageRecord[];
  readonly kernels: readonly KernelRecord[];
  /** All that goes, what only those need included, with the room it has. */
  readonly items: readonly Removed[];
}

/** What of the home is to go. A thing that work is at stays; what lingers for another try does not. */
export const planPrune = async (core: Core, usage: HomeUsage, request: Omit<Prune, "dryRun">): Promise<PrunePlan> => {
  const measured = { vms: await usage.vms(), rootfs: await usage.rootfs(), blobs: await usage.content(), kernels: await usage.kernels() };
  const all = core.vms.list();
  const vms = request.vms ? all.filter((vm) => PRUNABLE.has(vm.state) && !vm.isBuilder) : [];
  const gone = new Set(vms.map((vm) => vm.id));
  const staying = all.filter((vm) => !gone.has(vm.id));
  const usedRootfs = new Set(staying.map((vm) => vm.rootfsKey));
  const usedKernels = new Set(staying.map((vm) => vm.kernelKey));
  const isFree = (key: string): boolean => !usedRootfs.has(key) && !core.leases.isLeased(key);
  const images = request.images ? core.images.listImages().filter((image) => isFree(image.rootfsKey)) : [];
  const dropped = new Set(images.map((image) => image.reference));
  const kept = core.images.listImages().filter((image) => !dropped.has(image.reference));
  const keptRootfs = new Set(kept.map((image) => image.rootfsKey));
  const ofVms = await blobsOfVms(core, staying);
  const named = new Set([...kept.flatMap(blobsOf), ...[...ofVms.values()].flat()]);
  const newest = new Set(newestKernels(core.kernels.listKernels()));
  const kernels = request.kernels ? core.kernels.listKernels().filter(({ key }) => !newest.has(key) && !usedKernels.has(key)) : [];
  const old = new Set(kernels.map(({ key }) => key));
  const items = [
    ...itemsOf(
      "vm",
      measured.vms.filter((vm) => gone.has(vm.id as VmId)),
      (vm) => vm.id,
    ),
    ...images.map((image) => ({ kind: "image", id: image.reference, diskBytes: 0 })),
    ...itemsOf(
      "rootfs",
      measured.rootfs.filter(({ key }) => !keptRootfs.has(key) && isFree(key)),
      ({ key }) => key,
    ),
    ...itemsOf(
      "blob",
      measured.blobs.filter(({ digest }) => !named.has(digest) && !core.leases.isLeased(digest)),
      ({ digest }) => digest,
    ),
    ...itemsOf(
      "kernel",
      measured.kernels.filter(({ key }) => old.has(key)),
      ({ key }) => key,
    ),
  ];
  return { vms, images, kernels, items };
};

const itemsOf = <One extends Measured>(kind: string, list: readonly One[], id: (one: One) => string): Removed[] =>
  list.map((one) => ({ kind, id: id(one), diskBytes: one.diskBytes }));

/** The list is the newest first. */
const newestKernels = (kernels: readonly KernelRecord[]): string[] => {
  const names = new Map<string, string>();
  for (const { name, key } of kernels) if (!names.has(name)) names.set(name, key);
  return [...names.values()];
};

/**
 * Removes only what was prunable when it was decided and still is (I24): each VM under its own lock if it has not run
 * since, each image in a transaction that looks at its users, the rest by the sweep.
 */
export const prune = async (core: Core, usage: HomeUsage, request: Prune): Promise<PruneReport> => {
  // what a failed pull left for another try is what a person who prunes wants gone
  if (!request.dryRun) core.leases.endLingering();
  const plan = await planPrune(core, usage, request);
  if (request.dryRun) return toReport(plan.items, [], true);
  const sizes = new Map(plan.items.map((item) => [`${item.kind} ${item.id}`, item.diskBytes]));
  const removed: Removed[] = [];
  const failures: Failure[] = [];
  const attempt = async (kind: string, id: string, remove: () => Promise<boolean>): Promise<void> => {
    try {
      if (await remove()) removed.push({ kind, id, diskBytes: sizes.get(`${kind} ${id}`) ?? 0 });
    } catch (error) {
      failures.push({ kind, id, error: errorView(asKilnError(error)) });
    }
  };
  for (const vm of plan.vms) await attempt("vm", vm.id, () => removeEnded(core, vm));
  for (const image of plan.images) {
    await attempt("image", image.reference, async () => !core.leases.isHeld(image.rootfsKey) && core.images.removeUnusedImage(image));
  }
  removed.push(...(await sweepUnused(core)));
  for (const { key } of plan.kernels) await attempt("kernel", key, () => removeKernel(core, key));
  return toReport(removed, failures, false);
};

const removeEnded = async (core: Core, decided: VmRecord): Promise<boolean> => {
  const isSame = (now: VmRecord): boolean => now.state === decided.state && now.epoch === decided.epoch;
  await removeVm(core, decided.id, { force: false, onlyIf: isSame });
  return core.vms.get(decided.id) === null;
};

const removeKernel = async (core: Core, key: string): Promise<boolean> => {
  if (core.kernels.isKernelInUse(key)) return false;
  core.kernels.forgetKernel(key);
  await core.kernelSets.remove(key);
  core.preboots?.sweep((one) => core.kernels.getKernel(one) !== null);
  return true;
};

const toReport = (removed: readonly Removed[], failures: readonly Failure[], dryRun: boolean): PruneReport => ({
  removed: [...removed],
  failures: [...failures],
  diskBytes: removed.reduce((sum, one) => sum + one.diskBytes, 0),
  dryRun,
});
