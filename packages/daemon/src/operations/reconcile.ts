import { adoptVms, sweepVmDirectories } from "./adopt-vms.ts";
import type { Core } from "./core.ts";
import { reportRepair } from "./report-repair.ts";
import { findInterrupted, resumeOperations } from "./resume-operations.ts";
import { sweepUnused } from "./sweep.ts";
import type { HomeUsage } from "./usage.port.ts";
import { needsNetwork } from "./vm-network.ts";

/** What a daemon that has died may have left in the home beside its records. */
export interface LeftFiles {
  /** What was being written. */
  readonly staging: string;
  /** Removes all of it; says how much there was. */
  sweepStaging(): Promise<number>;
  readonly usage: Pick<HomeUsage, "rootfs" | "kernels" | "preboots">;
  remove(path: string): Promise<void>;
}

/** Before the first request: what an earlier daemon left is adopted, finished, undone or swept. */
export const reconcile = async (core: Core, files: LeftFiles): Promise<void> => {
  const left = await files.sweepStaging();
  // a guest that was to be saved ran in there
  if (left > 0) await core.driver.endStrays(files.staging);
  if (left > 0)
    reportRepair(core, { subject: "staging", id: null, found: `${left} unfinished files or directories`, did: "they are gone" });
  const interrupted = findInterrupted(core);
  core.operations.failInterrupted(interrupted.operations);
  await adoptVms(core, interrupted.vms);
  await sweepVmDirectories(core);
  await reconcileNetworks(core);
  await sweepKernels(core);
  core.preboots?.sweep((key) => core.kernels.getKernel(key) !== null);
  await sweepArtifacts(core, files);
  await sweepUnused(core);
  resumeOperations(core, interrupted);
  await core.pool.reconcile(core);
  if (core.config.pool.length > 0 && core.preboots === null) core.journal.warn({}, "there is no pool: pre-boot snapshots are switched off");
};

/** After the VMs: they say whether what they share is still needed. */
const reconcileNetworks = async (core: Core): Promise<void> => {
  const needed = core.vms.list().some(needsNetwork);
  const ended = await core.networks.reconcile({ needed, signal: core.stopping });
  if (ended > 0)
    reportRepair(core, { subject: "network", id: null, found: `${ended} processes of no use to any VM`, did: "they were ended" });
};

/** A newer agent or builder made a set of its own; the old one goes when no VM boots from it. */
const sweepKernels = async (core: Core): Promise<void> => {
  const builderDigest = await core.kernelSets.builderDigest().catch((error: unknown) => {
    core.journal.warn({ error: String(error) }, "old kernels are kept: it is not known which are");
    return null;
  });
  if (builderDigest === null) return;
  for (const { key } of core.kernels
    .listKernels()
    .filter((one) => one.builderDigest !== builderDigest && !core.kernels.isKernelInUse(one.key))) {
    core.kernels.forgetKernel(key);
    await core.kernelSets.remove(key);
  }
};

/** A file was published and the daemon died before its record: it is whole, but nothing names it. */
const sweepArtifacts = async (core: Core, { usage, remove }: LeftFiles): Promise<void> => {
  const orphans = [
    ...(await usage.rootfs()).filter(({ key }) => core.images.getRootfs(key) === null),
    ...(await usage.preboots()).filter(({ key }) => core.preboots?.has(key) === false),
    ...(await usage.kernels()).filter(({ key }) => core.kernels.getKernel(key) === null),
  ];
  for (const { path } of orphans) {
    await remove(path);
    reportRepair(core, {
      subject: path.slice(path.lastIndexOf("/") + 1),
      id: null,
      found: "an artifact without a record",
      did: "it is gone",
    });
    core.journal.warn({ path }, "removed an artifact without a record");
  }
};
