import { asKilnError, KilnError } from "@kiln/protocol";
import type { Preboots, PrebootShape } from "../pipeline/preboots.ts";
import type { WorkOptions } from "../pipeline/work.port.ts";
import type { OpenPreboot, PrebootRecord } from "../snapshots/preboot.ts";
import type { VmRecord } from "../vms/record.ts";
import type { VmFiles } from "./boot-vm.ts";
import type { Core } from "./core.ts";

/** How a VM is going to start: from a snapshot that it holds open, or cold, and why not the other way. `mayCome`: only that there is none yet. */
export type StartPath =
  | { readonly path: "preboot"; readonly saved: OpenPreboot; readonly reason: null }
  | { readonly path: "cold"; readonly saved: null; readonly reason: string; readonly mayCome: boolean };

export const shapeOf = (record: VmRecord, files: VmFiles): PrebootShape => ({
  ...{ cpus: record.cpus, memoryBytes: record.memoryBytes, kernelKey: files.kernelKey, kernel: files },
});

const cold = (reason: string, { mayCome = false } = {}): StartPath => ({ path: "cold", saved: null, reason, mayCome });

/** The fastest way that is valid now, or the one that was asked for. Throws where that one cannot be had. */
export const chooseStart = async (core: Core, record: VmRecord, about: { files: VmFiles; work: WorkOptions }): Promise<StartPath> => {
  const { files, work } = about;
  if (record.startMode === "cold") return cold("asked for");
  if (core.preboots === null) return withoutSnapshots(record);
  const shape = shapeOf(record, files);
  if (record.startMode === "preboot") return { path: "preboot", saved: await openBuilt(core.preboots, shape, work), reason: null };
  try {
    const saved = await core.preboots.open(shape, { signal: work.signal });
    if (saved !== null) return { path: "preboot", saved, reason: null };
    return cold("there was no pre-boot snapshot of this shape yet", { mayCome: true });
  } catch (error) {
    work.signal.throwIfAborted();
    return cold(`the pre-boot snapshot cannot be used: ${asKilnError(error).message}`);
  }
};

/** One that is missing or damaged is built, once. */
export const openBuilt = async (preboots: Preboots, shape: PrebootShape, work: WorkOptions): Promise<OpenPreboot> => {
  const open = async (): Promise<OpenPreboot> => {
    const { key } = await preboots.ensure(shape, work);
    const saved = await preboots.open(shape, { signal: work.signal });
    if (saved !== null) return saved;
    throw new KilnError("ARTIFACT_DAMAGED", `the pre-boot snapshot ${key} was removed as soon as it was built`, { object: key });
  };
  try {
    return await open();
  } catch (error) {
    if (!(error instanceof KilnError) || error.code !== "ARTIFACT_DAMAGED") throw error;
    return open();
  }
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
export const warmBehind = (core: Core, shape: PrebootShape, distrusted: { record: PrebootRecord; reason: string } | null): void => {
  const { preboots } = core;
  if (preboots === null) return;
  void (async () => {
    const options = { signal: core.stopping };
    if (distrusted !== null) preboots.distrust(distrusted.record, distrusted.reason);
    await preboots.ensureBehind(shape, options);
    preboots.sweep((key) => core.kernels.getKernel(key) !== null);
  })().catch((error: unknown) => {
    if (!core.stopping.aborted) core.journal.warn({ error: asKilnError(error).message }, "a pre-boot snapshot could not be built");
  });
};
