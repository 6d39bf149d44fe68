import { type Digest, KilnError, type OperationView, type RegisterImage } from "@kiln/protocol";
import { parsePlatform } from "../images/host-platform.ts";
import { type NameClaim, namedContent } from "../images/naming.ts";
import type { ContentLease } from "../images/ports.ts";
import type { ImageRecord } from "../images/records.port.ts";
import { registeredConfig, registeredManifest } from "../images/registered-image.ts";
import type { Core } from "./core.ts";
import { findContent, newReference, requireNameYet, storeDocument } from "./derive-image.ts";
import { buildRootfs, type CallerFacts, workFor } from "./images.ts";
import type { OperationContext } from "./operation.ts";
import { runSaga, type Saga, type SagaRecord } from "./saga/saga.ts";
import { sweepUnused } from "./sweep.ts";

interface RegisterInput {
  readonly request: RegisterImage;
  readonly reference: string;
  readonly claim: NameClaim;
}

export interface RegisterContext {
  readonly core: Core;
  readonly input: RegisterInput;
  readonly operation: OperationContext;
  readonly lease: ContentLease;
  record: ImageRecord | null;
}

/** An image of an ext4 file that the caller has sent before. */
export const beginRegisterImage = (
  core: Core,
  request: RegisterImage,
  { idempotencyKey, caller }: Omit<CallerFacts, "credentials">,
): OperationView => {
  const idempotency = idempotencyKey === null ? null : { key: idempotencyKey, request };
  const known = core.operations.recall("image.register", idempotency);
  if (known !== null) return known;
  const reference = newReference(request.name);
  const claim: NameClaim = { expect: namedContent(core.images.getImage(reference)), replace: request.replace };
  const input: RegisterInput = { request, reference, claim };
  return core.operations.beginSaga(
    {
      spec: { kind: "image.register", key: reference, subject: reference, caller },
      idempotency,
      saga: { name: REGISTER_SAGA.name, input },
    },
    (operation, saga) => continueRegister(core, saga, operation),
  );
};

/** Whether an operation was begun under the key already. */
export const hasBegunRegister = (
  core: Core,
  request: RegisterImage,
  { idempotencyKey: key }: Pick<CallerFacts, "idempotencyKey">,
): boolean => key !== null && core.operations.recall("image.register", { key, request }) !== null;

/** What the caller has sent, and would have to send again. */
export const contentOfRegister = ({ saga, input }: SagaRecord): Digest | null =>
  saga === REGISTER_SAGA.name ? ((input as RegisterInput).request.rootfs as Digest) : null;

export const continueRegister = async (core: Core, saga: SagaRecord, operation: OperationContext): Promise<string | null> => {
  await using afterLease = new AsyncDisposableStack();
  // also where it fails: what was stored for it, and what the name led to before, is nobody's by then
  afterLease.defer(async () => void (await sweepUnused(core)));
  using lease = core.leases.begin(operation.id);
  const input = saga.input as RegisterInput;
  const context: RegisterContext = { core, input, operation, lease, record: null };
  const { signal } = operation;
  const onStep = (name: string): void => operation.phase(name);
  try {
    await runSaga(REGISTER_SAGA, { context, record: saga, log: core.sagas, signal, onStep, checkpoint: core.checkpoint });
  } catch (error) {
    // who may try again, with another name for one, need not send it again
    if (isOfNoUse(error)) core.leases.endLingering([input.request.rootfs]);
    throw error;
  }
  core.leases.endLingering([input.request.rootfs]);
  return context.record?.image.manifestDigest ?? null;
};

const isOfNoUse = (error: unknown): boolean => error instanceof KilnError && ["ROOTFS_INVALID", "ROOTFS_TOO_LARGE"].includes(error.code);

/** Of the file's digest and of what was asked for: it is the same image however often it is made. */
const makeImage = async (context: RegisterContext): Promise<unknown> => {
  const { core, input, operation, lease } = context;
  const { request, reference, claim } = input;
  const held = { lease, signal: operation.signal };
  lease.hold(request.rootfs);
  const rootfs = await core.content.stat(request.rootfs as Digest);
  if (rootfs === null) throw contentMissing(reference, request.rootfs);
  const platform = request.platform === null ? core.platform : parsePlatform(request.platform);
  const registration = { rootfs, platform, config: request.config };
  const config = await storeDocument(core, registeredConfig(registration), held);
  const manifest = await storeDocument(core, registeredManifest(registration, config), held);
  const image = await findContent({ ...core, platform }, { reference, manifest: manifest.digest }, held);
  if (image === null) throw contentMissing(reference, request.rootfs);
  context.record = core.pipeline.imageRecord(reference, { image, root: manifest.digest });
  lease.hold(context.record.rootfsKey);
  requireNameYet(core, context.record, claim);
  return { root: manifest.digest };
};

const contentMissing = (reference: string, digest: string): KilnError =>
  new KilnError("IMAGE_CONTENT_MISSING", `the file system of ${reference}, ${digest}, is not in the content store`, { object: reference });

const takeUpImage = async (context: RegisterContext): Promise<void> => void (await makeImage(context));

/** What it makes is a function of its input: there is nothing to take back, and blobs that nobody names are the sweep's. */
export const REGISTER_SAGA: Saga<RegisterContext> = {
  name: "image.register",
  onFailure: "carry on",
  steps: [
    { name: "image", run: makeImage, resume: takeUpImage },
    {
      name: "rootfs",
      needsAll: true,
      run: async ({ core, operation, record }) => {
        if (record !== null) await buildRootfs(core, record, workFor(operation));
      },
    },
    { name: "kernel", needsAll: true, run: async ({ core, operation }) => void (await core.pipeline.ensureKernel(workFor(operation))) },
    {
      name: "name",
      needsAll: true,
      run: async ({ core, input, record }) => {
        if (record !== null) await core.pipeline.publishImage(record, input.claim);
      },
    },
  ],
};
