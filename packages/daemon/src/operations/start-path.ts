import { asKilnError, KilnError } from "@kiln/protocol";
import type { PrebootShape } from "../pipeline/preboots.ts";
import type { WorkOptions } from "../pipeline/work.port.ts";
import type { OpenPreboot } from "../snapshots/preboot.ts";
import type { VmRecord } from "../vms/record.ts";
import type { VmFiles } from "./boot-vm.ts";
import type { Core } from "./core.ts";

/** How a VM is going to start: from a snapshot that it holds open, or cold, and why not the other way. */
export type StartPath =
  | { readonly path: "preboot"; readonly saved: OpenPreboot; readonly reason: null }
  | { readonly path: "cold"; readonly saved: null; readonly reason: string };

export const shapeOf = (record: VmRecord, files: VmFiles): PrebootShape => ({
  ...{ cpus: record.cpus, memoryBytes: record.memoryBytes, kernelKey: files.kernelKey, kernel: files },
});

const cold = (reason: string): StartPath => ({ path: "cold", saved: null, reason });

/** The fastest way that is valid now, or the one that was asked for. Throws where that one cannot be had. */
export const chooseStart = async (core: Core, record: VmRecord, about: { files: VmFiles; work: WorkOptions }): Promise<StartPath> => {
  const { files, work } = about;
  if (record.startMode === "cold") return cold("asked for");
  if (core.preboots === null) return withoutSnapshots(record);
  const shape = shapeOf(record, files);
  if (record.startMode === "preboot") await core.preboots.ensure(shape, work);
  try {
    const saved = await core.preboots.open(shape, { signal: work.signal });
    if (saved !== null) return { path: "preboot", saved, reason: null };
  } catch (error) {
    work.signal.throwIfAborted();
    if (record.startMode === "preboot") throw error;
    return cold(`the pre-boot snapshot cannot be used: ${asKilnError(error).message}`);
  }
  if (record.startMode === "auto") return cold("there was no pre-boot snapshot of this shape yet");
  throw new KilnError("ARTIFACT_DAMAGED", `the pre-boot snapshot for ${record.name} was removed as soon as it was built`, {
    object: record.name,
  });
};

const withoutSnapshots = (record: VmRecord): StartPath => {
  if (record.startMode === "auto") return cold("pre-boot snapshots are switched off");
  throw new KilnError("USAGE", `${record.name} cannot start from a pre-boot snapshot: they are switched off`, {
    ...{ object: record.name, hint: "start the daemon with KILN_PREBOOT=on, or leave --start out" },
  });
};

/**
 * What the next VM of this shape will start from is built while nobody waits for it. A snapshot that this VM could not
 * start from, and its cold boot could, is not trusted again.
 */
export const warmBehind = (core: Core, shape: PrebootShape, distrusted: string | null): void => {
  const { preboots } = core;
  if (preboots === null) return;
  void (async () => {
    const options = { signal: core.stopping };
    if (distrusted !== null) await preboots.distrust(shape, distrusted, options);
    await preboots.ensureBehind(shape, options);
    preboots.sweep((key) => core.kernels.getKernel(key) !== null);
  })().catch((error: unknown) => {
    if (!core.stopping.aborted) core.journal.warn({ error: asKilnError(error).message }, "a pre-boot snapshot could not be built");
  });
};
