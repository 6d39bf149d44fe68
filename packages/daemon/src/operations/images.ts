import {
  type Digest,
  type ImageDetails,
  type ImageView,
  type ImportImageAnswer,
  KilnError,
  type OperationView,
  type PullImage,
  type RegistryCredentials,
} from "@kiln/protocol";
import type { ImportPlan } from "../images/import-plan.ts";
import { parsePlatform } from "../images/host-platform.ts";
import { namedContent } from "../images/naming.ts";
import type { ContentLease, SourceRequest } from "../images/ports.ts";
import type { ImageRecord, RootfsRecord } from "../images/records.port.ts";
import { canonicalReference, findImage, parseImageReference } from "../images/reference.ts";
import type { WorkOptions } from "../pipeline/work.port.ts";
import { isDiskFull, type WantedImage } from "../pipeline/pipeline.ts";
import type { Core } from "./core.ts";
import type { OperationContext } from "./operation.ts";
import { blobsOf, toImageDetails, toImageView } from "./report-images.ts";
import { runSaga, type Saga, type SagaRecord } from "./saga/saga.ts";
import { sweepUnused } from "./sweep.ts";

/** What a caller gives along with a request that may pull. */
export interface CallerFacts {
  readonly idempotencyKey: string | null;
  readonly credentials: RegistryCredentials;
  /** Who asks, as far as they say: callers take turns where they have to wait. */
  readonly caller: string;
}

export const listImages = (core: Core): ImageView[] => core.images.listImages().map((record) => toImageView(core, record));

/** Throws IMAGE_NOT_FOUND, REFERENCE_INVALID. */
export const requireImage = (core: Core, text: string): ImageRecord => {
  const record = findImage(text, core.images);
  if (record === null) throw new KilnError("IMAGE_NOT_FOUND", `there is no image ${text}`, { object: text });
  return record;
};

export const inspectImage = (core: Core, text: string): ImageDetails => toImageDetails(core, requireImage(core, text));

export const sourceRequest = (
  request: { platform: string | null; plainHttp: boolean },
  credentials: RegistryCredentials,
): SourceRequest => ({
  platform: request.platform === null ? null : parsePlatform(request.platform),
  plainHttp: request.plainHttp,
  credentials,
});

/** Work for an operation; what it says of itself is the operation's own. */
export const workFor = (context: OperationContext): WorkOptions => ({
  ...{ signal: context.signal, operation: context.id },
  onProgress: ({ phase, progress, parts, output }) => {
    context.phase(phase);
    context.report(progress);
    context.parts(parts);
    if (output !== null) context.output(output);
  },
});

export interface FetchedRecord {
  readonly record: ImageRecord;
  /** The name meant another image before: once the caller's lease has ended there is something to sweep. */
  readonly hasMoved: boolean;
}

/** The image under a name. */
export const fetchImage = async (core: Core, wanted: WantedImage, options: WorkOptions): Promise<FetchedRecord> => {
  const before = findImage(wanted.reference, core.images);
  const record = await sweepIfFull(core, () => core.pipeline.ensureImage(wanted, options));
  return { record, hasMoved: before !== null && before.reference === record.reference && before.root !== record.root };
};

/** The rootfs of an image; a build that found no room leaves none of its own behind. */
export const buildRootfs = async (core: Core, image: ImageRecord, options: WorkOptions): Promise<RootfsRecord> =>
  sweepIfFull(core, () => core.pipeline.ensureRootfs(image, options));

const sweepIfFull = async <Result>(core: Core, work: () => Promise<Result>): Promise<Result> => {
  try {
    return await work();
  } catch (error) {
    if (isDiskFull(error)) await sweepUnused(core);
    throw error;
  }
};

/** An explicit pull shares its work with every create that wants the same image. */
export const beginPullImage = (core: Core, request: PullImage, { idempotencyKey, credentials, caller }: CallerFacts): OperationView => {
  const reference = canonicalReference(request.reference);
  const joined = core.pipeline.inFlight({ ...request, ...sourceRequest(request, credentials) }, { kernel: false });
  return core.operations.beginSaga(
    {
      spec: { kind: "image.ensure", key: reference, subject: reference, caller, joined },
      idempotency: idempotencyKey === null ? null : { key: idempotencyKey, request },
      saga: { name: ENSURE_SAGA.name, input: request },
    },
    (operation, saga) => continuePull(core, { saga, operation, credentials }),
  );
};

export interface EnsureContext {
  readonly core: Core;
  readonly request: PullImage;
  /** They are in no record: a daemon that takes the pull up again asks the registry as a stranger. */
  readonly credentials: RegistryCredentials;
  readonly lease: ContentLease;
  readonly options: WorkOptions;
  image: FetchedRecord | null;
}

export const continuePull = async (
  core: Core,
  held: { readonly saga: SagaRecord; readonly operation: OperationContext; readonly credentials: RegistryCredentials },
): Promise<string | null> => {
  const { saga, operation, credentials } = held;
  const fetched = await pullUnderLease(core, saga, { operation, credentials });
  return fetched?.record.image.manifestDigest ?? null;
};

const pullUnderLease = async (
  core: Core,
  saga: SagaRecord,
  held: { operation: OperationContext; credentials: RegistryCredentials },
): Promise<FetchedRecord | null> => {
  await using afterLease = new AsyncDisposableStack();
  using lease = core.leases.begin(held.operation.id);
  const context = ensureContext(core, saga, { ...held, lease });
  // also where it fails: the name may lead elsewhere by then, and what it led to is nobody's
  afterLease.defer(async () => {
    if (context.image?.hasMoved === true) await sweepUnused(core);
  });
  const { signal } = held.operation;
  const onStep = (name: string): void => held.operation.phase(name);
  await runSaga(ENSURE_SAGA, { context, record: saga, log: core.sagas, signal, onStep, checkpoint: core.checkpoint });
  return context.image;
};

export const ensureContext = (
  core: Core,
  saga: SagaRecord,
  held: { operation: OperationContext; credentials: RegistryCredentials; lease: ContentLease },
): EnsureContext => {
  const { operation, credentials, lease } = held;
  return { core, request: saga.input as PullImage, credentials, lease, options: workFor(operation), image: null };
};

const pull = async (context: EnsureContext): Promise<void> => {
  const { core, request, credentials, lease, options } = context;
  const wanted = { ...sourceRequest(request, credentials), reference: request.reference, pull: request.pull, lease };
  context.image = await fetchImage(core, wanted, options);
};

/** Pulls are pure: what was fetched is content by digest, and the sweep's if nobody names it. */
export const ENSURE_SAGA: Saga<EnsureContext> = {
  name: "image.ensure",
  onFailure: "carry on",
  steps: [
    { name: "image", run: pull, resume: pull },
    {
      name: "rootfs",
      needsAll: true,
      run: async ({ core, image, options }) => {
        if (image !== null) await buildRootfs(core, image.record, options);
      },
    },
  ],
};

/** Names an image whose blobs the caller has sent, or says which are missing. */
export const importImage = async (
  core: Core,
  { reference, root }: { reference: string; root: string },
  plan: () => Promise<ImportPlan>,
): Promise<ImportImageAnswer> => {
  const name = canonicalReference(reference);
  const before = core.images.getImage(name);
  const planned = await plan();
  if (planned.state === "incomplete") return { missing: planned.missing.map(({ digest, size }) => ({ digest, size })), image: null };
  const record = core.pipeline.imageRecord(name, { image: planned.image, root: root as Digest });
  using _lease = leaseOf(core, record);
  await core.pipeline.publishImage(record, { expect: namedContent(before), replace: true });
  core.leases.endLingering(blobsOf(record)); // their record keeps them now
  if (before !== null && before.root !== record.root) await sweepUnused(core);
  return { missing: [], image: toImageView(core, record) };
};

/** Keeps what an image stands on until it has its name. */
const leaseOf = (core: Core, record: ImageRecord): ContentLease => {
  const lease = core.leases.begin();
  for (const name of [record.rootfsKey, ...blobsOf(record)]) lease.hold(name);
  return lease;
};

/** Gives an image a further name, as docker's `tag`; what the name meant before loses it. */
export const tagImage = async (core: Core, request: { source: string; target: string }): Promise<ImageView> => {
  const target = parseImageReference(request.target);
  if (target.transport !== "docker" || target.digest !== null) {
    throw new KilnError("REFERENCE_INVALID", `${request.target} is not NAME[:TAG]`, { object: request.target });
  }
  const source = requireImage(core, request.source);
  const reference = canonicalReference(request.target);
  const before = core.images.getImage(reference);
  const record: ImageRecord = { ...source, reference, image: { ...source.image, reference } };
  using _lease = leaseOf(core, record);
  await core.pipeline.publishImage(record, { expect: namedContent(before), replace: true, tagOf: source.reference });
  if (before !== null && before.root !== record.root) await sweepUnused(core);
  return toImageView(core, record);
};

/** Removes a name, then what only it needed. Throws IMAGE_NOT_FOUND, IMAGE_IN_USE. */
export const removeImage = async (core: Core, text: string): Promise<void> => {
  const { reference, rootfsKey } = requireImage(core, text);
  const others = core.images.listImages().filter((one) => one.rootfsKey === rootfsKey && one.reference !== reference);
  if (others.length === 0 && core.leases.isHeld(rootfsKey)) {
    throw new KilnError("IMAGE_IN_USE", `the image ${reference} is wanted by an operation that runs`, {
      object: reference,
      hint: "wait for it, or cancel it: `kiln op ls`",
    });
  }
  core.images.removeImage(reference);
  await sweepUnused(core);
};
