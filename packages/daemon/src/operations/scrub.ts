import { asKilnError, type CheckedArtifact, type Digest, type OperationView, type ScrubReport } from "@kiln/protocol";
import type { ImageRecord } from "../images/records.port.ts";
import { isSameRootfs } from "../images/rootfs-record.ts";
import type { Reading } from "../pipeline/checks.port.ts";
import type { WorkContext } from "../pipeline/work.port.ts";
import type { Core } from "./core.ts";
import { type CallerFacts, workFor } from "./images.ts";
import { OPERATION_LIMITS } from "./limits.ts";
import type { OperationContext } from "./operation.ts";
import { imageOfRootfs } from "./rebuildable.ts";
import { reportRepair } from "./report-repair.ts";
import { runSaga, type Saga, type SagaRecord } from "./saga/saga.ts";
import { tellDamaged } from "./tell-damaged.ts";

export interface Artifact extends Pick<CheckedArtifact, "kind" | "id"> {
  /** On the disk, about. */
  readonly bytes: number;
  /** When it was whole for certain: it was read in full, or made. Milliseconds since 1970. */
  readonly wholeAtMs: number;
}

export interface ScrubContext {
  readonly core: Core;
  readonly operation: OperationContext;
}

/** Everything in the home that can be read in full and compared with what was promised of it, what was looked at longest ago first. */
export const listArtifacts = async (core: Core): Promise<readonly Artifact[]> => {
  const found: Artifact[] = [];
  const add = (artifact: Pick<Artifact, "kind" | "id" | "bytes">, madeAtMs: number): void => {
    found.push({ ...artifact, wholeAtMs: Math.max(madeAtMs, core.checked.checkedAtMs(artifact) ?? 0) });
  };
  for await (const { digest, size } of core.artifacts.blobs()) {
    add({ kind: "blob", id: digest, bytes: size }, core.artifacts.storedAtMs(digest) ?? 0);
  }
  for (const { key, fingerprint, createdAt } of core.images.listRootfs()) {
    add({ kind: "rootfs", id: key, bytes: fingerprint.size }, Date.parse(createdAt));
  }
  for (const { key, sizeBytes, createdAt } of core.kernels.listKernels()) {
    add({ kind: "kernel", id: key, bytes: sizeBytes }, Date.parse(createdAt));
  }
  for (const { key, diskBytes, createdAt } of core.preboots?.list() ?? []) {
    add({ kind: "preboot", id: key, bytes: diskBytes }, Date.parse(createdAt));
  }
  return found.toSorted((one, other) => one.wholeAtMs - other.wholeAtMs);
};

/**
 * Reads one artifact in full, and puts right what is not whole: a rootfs is built again in its place, a kernel set or a
 * snapshot is forgotten, so that whoever wants it next builds it, and a blob goes, so that it can be sent again. Who has
 * it open keeps it. null where it has gone meanwhile.
 */
export const checkArtifact = async (core: Core, artifact: Artifact, reading: Reading): Promise<CheckedArtifact | null> => {
  const { kind, id } = artifact;
  const result = await CHECKS[kind](core, id, reading);
  if (result === null) return null;
  if (result.state === "whole") core.checked.putChecked(artifact, core.clock.now());
  else reportRepair(core, { subject: id, id, found: `a ${kind} that is ${result.state}`, did: result.repair ?? "" });
  return { kind, id, ...result };
};

type Check = (core: Core, id: string, reading: Reading) => Promise<Omit<CheckedArtifact, "kind" | "id"> | null>;

const WHOLE = { state: "whole", repair: null, repaired: true } as const;

const checkBlob: Check = async (core, id, reading) => {
  const digest = id as Digest;
  const file = await core.artifacts.blob(digest, reading);
  if (file === null) return null; // nothing promises it: an image that lacks it is asked for by verify
  const bytes = file.fingerprint.size;
  if (file.digest === digest) return { bytes, ...WHOLE };
  tellDamaged(core, { kind: "blob", id, state: "damaged" });
  core.artifacts.removeBlobNow(digest, file);
  const isWanted = core.images
    .listImages()
    .some(({ image }) => image.configDigest === digest || image.layers.some((one) => one.digest === digest));
  const repair = isWanted ? "it is gone; `kiln image rebuild` fetches it again where that can be" : "it is gone: no image has it";
  return { bytes, state: "damaged", repair, repaired: !isWanted };
};

const checkRootfs: Check = async (core, key, reading) => {
  const record = core.images.getRootfs(key);
  if (record === null) return null;
  const file = await core.artifacts.rootfs(key, reading);
  const bytes = file?.fingerprint.size ?? 0;
  if (file?.digest === record.digest) return { bytes, ...WHOLE };
  // a rebuild may have put another one in its place while this was read
  if (!isSameRootfs(core.images.getRootfs(key), record)) return checkRootfs(core, key, reading);
  const state = file === null ? "missing" : "damaged";
  tellDamaged(core, { kind: "rootfs", id: key, state });
  core.images.forgetRootfs(key);
  return { bytes, state, ...(await buildAgain(core, key, reading.signal)) };
};

type Repair = Pick<CheckedArtifact, "repair" | "repaired">;

/** In its place, so that no start finds it missing. */
const buildAgain = async (core: Core, key: string, signal: AbortSignal): Promise<Repair> => {
  let image: ImageRecord | null = null;
  try {
    image = await imageOfRootfs(core, key, { vms: core.vms.list(), signal });
    if (image !== null) {
      await core.pipeline.ensureRootfs(image, { signal });
      return { repair: "it was built again", repaired: true };
    }
  } catch (error) {
    signal.throwIfAborted();
    core.journal.warn({ rootfs: key, error: asKilnError(error).message }, "a damaged rootfs could not be built again");
  }
  if (!core.leases.isHeld(key)) core.rootfsFiles.removeNow(key);
  if (image === null) return { repair: "it is gone: no image has it", repaired: true };
  return { repair: `it could not be built again: \`kiln image rebuild ${image.reference}\` says why`, repaired: false };
};

const checkKernel: Check = async (core, key, reading) => {
  const record = core.kernels.getKernel(key);
  if (record === null) return null;
  const found = await core.artifacts.kernel(record, reading);
  if (found.state === "whole") return { ...found, ...WHOLE };
  // a start that noticed it may have built another one under its key while this was read
  const now = core.kernels.getKernel(key);
  if (now?.createdAt !== record.createdAt || now.digest !== record.digest) return checkKernel(core, key, reading);
  tellDamaged(core, { kind: "kernel", id: key, state: found.state });
  core.kernels.forgetKernel(key);
  await core.kernelSets.remove(key);
  core.preboots?.sweep((one) => core.kernels.getKernel(one) !== null);
  return { ...found, repair: "it is gone; the next start builds it again", repaired: true };
};

const checkPreboot: Check = async (core, key, reading) => {
  const record = core.preboots?.list().find((one) => one.key === key);
  if (record === undefined) return null;
  const found = await core.artifacts.preboot(record, reading);
  if (found.state === "whole") return { ...found, ...WHOLE };
  tellDamaged(core, { kind: "preboot", id: key, state: found.state });
  core.preboots?.distrust(record, `it is ${found.state}`);
  return { ...found, repair: "it is gone; a start builds it again", repaired: true };
};

const CHECKS: Readonly<Record<CheckedArtifact["kind"], Check>> = {
  blob: checkBlob,
  rootfs: checkRootfs,
  kernel: checkKernel,
  preboot: checkPreboot,
};

/** One pass over everything, now and as fast as the disk: who asks while one runs joins it. */
export const beginScrub = (core: Core, { idempotencyKey, caller }: Omit<CallerFacts, "credentials">): OperationView =>
  core.operations.beginSaga(
    {
      spec: { kind: "scrub", key: "all", subject: "all artifacts", caller, joined: core.work.inFlight("scrub.pass", "all") },
      idempotency: idempotencyKey === null ? null : { key: idempotencyKey, request: {} },
      saga: { name: SCRUB_SAGA.name, input: {} },
    },
    (operation, saga) => continueScrub(core, saga, operation),
  );

export const continueScrub = async (core: Core, saga: SagaRecord, operation: OperationContext): Promise<string | null> => {
  const context: ScrubContext = { core, operation };
  const { signal } = operation;
  const onStep = (name: string): void => operation.phase(name);
  await runSaga(SCRUB_SAGA, { context, record: saga, log: core.sagas, signal, onStep, checkpoint: core.checkpoint });
  return null;
};

const scrub = async ({ core, operation }: ScrubContext): Promise<void> => {
  const report = await core.work.run<ScrubReport>(
    {
      kind: "scrub.pass",
      key: "all",
      subject: "all artifacts",
      find: async () => null,
      make: (context) => scrubAll(core, context),
      describe: ({ damaged }) => `${damaged} damaged`,
    },
    workFor(operation),
  );
  operation.found(report);
};

const scrubAll = async (core: Core, context: WorkContext): Promise<ScrubReport> => {
  context.phase("read");
  const artifacts = await listArtifacts(core);
  const total = artifacts.reduce((sum, { bytes }) => sum + bytes, 0);
  let done = 0;
  const onRead = (bytes: number): void => {
    done += bytes;
    context.report({ done, total: Math.max(done, total), unit: "bytes" });
  };
  const checked: CheckedArtifact[] = [];
  for (const artifact of artifacts) {
    context.signal.throwIfAborted();
    const one = await checkArtifact(core, artifact, { signal: context.signal, onRead });
    if (one !== null) checked.push(one);
  }
  core.checked.keepChecked(artifacts);
  const bad = checked.filter(({ state }) => state !== "whole");
  const whole = checked.filter(({ state }) => state === "whole");
  return {
    kind: "scrub",
    artifacts: [...bad, ...whole].slice(0, OPERATION_LIMITS.reportedArtifacts),
    checked: checked.length,
    bytes: checked.reduce((sum, { bytes }) => sum + bytes, 0),
    damaged: bad.length,
    unrepaired: bad.filter(({ repaired }) => !repaired).length,
  };
};

/** What it forgets is damaged, and what it builds is a function of its key: there is nothing to take back. */
export const SCRUB_SAGA: Saga<ScrubContext> = {
  name: "scrub",
  onFailure: "carry on",
  steps: [{ name: "pass", run: scrub, resume: scrub }],
};
