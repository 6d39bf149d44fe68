import type { OperationView, RebuildImage, RegistryCredentials } from "@kiln/protocol";
import { KilnError } from "@kiln/protocol";
import type { ContentLease } from "../images/ports.ts";
import type { ImageRecord } from "../images/records.port.ts";
import type { Core } from "./core.ts";
import { type CallerFacts, requireImage, workFor } from "./images.ts";
import type { OperationContext } from "./operation.ts";
import { blobsOf } from "./report-images.ts";
import { runSaga, type Saga, type SagaRecord } from "./saga/saga.ts";
import { sweepUnused } from "./sweep.ts";
import { tellDamaged } from "./tell-damaged.ts";
import { isDiskFull } from "../pipeline/pipeline.ts";

interface RebuildInput extends RebuildImage {
  /** sha256 of the rootfs that was recorded when it was asked for. */
  readonly before: string | null;
}

export interface RebuildContext {
  readonly core: Core;
  readonly input: RebuildInput;
  /** They are in no record: a daemon that takes the work up again asks the registry as a stranger. */
  readonly credentials: RegistryCredentials;
  readonly lease: ContentLease;
  readonly operation: OperationContext;
  fetched: readonly string[];
  digest: string | null;
}

/**
 * Builds the rootfs of an image again, whatever there is of it; what is missing or damaged of the image is fetched from
 * where it came. The old rootfs goes when the new one was read back (I14), and VMs that have it open keep it.
 */
export const beginRebuildImage = (
  core: Core,
  request: RebuildImage,
  { idempotencyKey, credentials, caller }: CallerFacts,
): OperationView => {
  const idempotency = idempotencyKey === null ? null : { key: idempotencyKey, request };
  const known = core.operations.recall("image.rebuild", idempotency);
  if (known !== null) return known;
  const { reference, rootfsKey } = requireLayers(requireImage(core, request.reference));
  const before = core.images.getRootfs(rootfsKey)?.digest ?? null;
  return core.operations.beginSaga(
    {
      spec: { kind: "image.rebuild", key: reference, subject: reference, caller, joined: core.checks.rebuilding(rootfsKey) },
      idempotency,
      saga: { name: REBUILD_SAGA.name, input: { ...request, reference, before } satisfies RebuildInput },
    },
    (operation, saga) => continueRebuild(core, { saga, operation, credentials }),
  );
};

export const continueRebuild = async (
  core: Core,
  held: { readonly saga: SagaRecord; readonly operation: OperationContext; readonly credentials: RegistryCredentials },
): Promise<string | null> => {
  const { saga, operation, credentials } = held;
  using lease = core.leases.begin(operation.id);
  const context = rebuildContext(core, saga, { operation, credentials, lease });
  const { signal } = operation;
  const onStep = (name: string): void => operation.phase(name);
  await runSaga(REBUILD_SAGA, { context, record: saga, log: core.sagas, signal, onStep, checkpoint: core.checkpoint });
  return context.digest;
};

export const rebuildContext = (
  core: Core,
  saga: SagaRecord,
  held: { operation: OperationContext; credentials: RegistryCredentials; lease: ContentLease },
): RebuildContext => ({ core, input: saga.input as RebuildInput, ...held, fetched: [], digest: null });

const requireLayers = (image: ImageRecord): ImageRecord => {
  if (image.image.layers.length > 0) return image;
  throw new KilnError("IMAGE_CONTENT_MISSING", `the rootfs of ${image.reference} was not made from layers, and cannot be built again`, {
    ...{ object: image.reference, hint: "make the image again from where it came" },
  });
};

/** What is damaged goes first: while it is there, nobody would send it again. */
const bringBlobs = async ({ core, input, credentials, lease, operation }: RebuildContext): Promise<{ fetched: string[] }> => {
  const image = requireLayers(requireImage(core, input.reference));
  for (const name of [image.rootfsKey, ...blobsOf(image)]) lease.hold(name);
  const { signal } = operation;
  const bad = (await core.checks.readBlobs(image, operation)).filter(({ state }) => state !== "whole");
  for (const { digest, file, state } of bad) {
    tellDamaged(core, { kind: "blob", id: digest, state });
    if (file !== null) core.artifacts.removeBlobNow(digest, file);
  }
  if (bad.length === 0) return { fetched: [] };
  const how = { credentials, plainHttp: input.plainHttp, lease, operation: operation.id, signal };
  await core.refetch.run(image, { ...how, phase: operation.phase, report: operation.report, parts: operation.parts });
  return { fetched: bad.map(({ digest }) => digest) };
};

const holdBlobs = async (context: RebuildContext, output: unknown): Promise<void> => {
  const image = requireImage(context.core, context.input.reference);
  for (const name of [image.rootfsKey, ...blobsOf(image)]) context.lease.hold(name);
  context.fetched = (output as { fetched: string[] }).fetched;
};

const rebuild = async (context: RebuildContext): Promise<void> => {
  const { core, input, operation } = context;
  const image = requireImage(core, input.reference);
  try {
    const { digest } = await core.checks.rebuildRootfs(image, workFor(operation));
    context.digest = digest;
  } catch (error) {
    if (isDiskFull(error)) await sweepUnused(core);
    throw error;
  }
  report(context, image);
};

const report = ({ core, input, operation, fetched, digest }: RebuildContext, { reference, rootfsKey }: ImageRecord): void => {
  if (digest === null) return;
  operation.found({ kind: "image.rebuild", reference, rootfsKey, before: input.before, digest, fetched: [...fetched] });
  if (input.before === null || input.before === digest) return;
  // layers are checked against their diff ids, and a build is a function of them: the record was wrong, or the builder was
  core.journal.warn({ reference, rootfsKey, before: input.before, digest }, "a rootfs that was built again has another hash");
};

const takeUpRebuilt = async (context: RebuildContext): Promise<void> => {
  const image = requireImage(context.core, context.input.reference);
  context.digest = context.core.images.getRootfs(image.rootfsKey)?.digest ?? null;
  report(context, image);
};

/** A failure takes nothing back: what was fetched is content by digest, and the old rootfs is in its place. */
export const REBUILD_SAGA: Saga<RebuildContext> = {
  name: "image.rebuild",
  onFailure: "carry on",
  steps: [
    {
      name: "blobs",
      run: async (context) => {
        const output = await bringBlobs(context);
        context.fetched = output.fetched;
        return output;
      },
      resume: holdBlobs,
    },
    { name: "rootfs", needsAll: true, run: rebuild, resume: takeUpRebuilt },
  ],
};
