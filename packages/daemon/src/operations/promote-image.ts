import { type Digest, type OperationView, type PromoteImage, type VmId } from "@kiln/protocol";
import { type NameClaim, namedContent } from "../images/naming.ts";
import type { ContentLease } from "../images/ports.ts";
import type { ImageRecord } from "../images/records.port.ts";
import type { VmRecord } from "../vms/record.ts";
import type { Core } from "./core.ts";
import {
  newReference,
  packWritten,
  PUBLISH_STEPS,
  requireBase,
  requireNameYet,
  requireStopped,
  storeDerived,
  type WrittenLayer,
} from "./derive-image.ts";
import { getVm } from "./find-vm.ts";
import type { CallerFacts } from "./images.ts";
import type { OperationContext } from "./operation.ts";
import { runSaga, type Saga, type SagaRecord } from "./saga/saga.ts";
import { sweepUnused } from "./sweep.ts";

/** Decided at the beginning, so that doing a step again makes the same image. */
interface PromoteInput {
  readonly request: PromoteImage;
  readonly reference: string;
  readonly vm: VmId;
  readonly claim: NameClaim;
}

/** What was read of the VM, under its lock: the image is a function of it and of the input. JSON. */
interface Written {
  readonly vm: Pick<VmRecord, "name" | "image" | "imageDigest">;
  readonly layer: WrittenLayer | null;
  /** When the VM wrote last. */
  readonly writtenAt: string;
}

export interface PromoteContext {
  readonly core: Core;
  readonly input: PromoteInput;
  readonly operation: OperationContext;
  /** Keeps what was stored until the image has its name. */
  readonly lease: ContentLease;
  written: Written | null;
  record: ImageRecord | null;
}

/** An image of what a VM has written: as `docker commit`, but of a VM that does not run. */
export const beginPromoteImage = (
  core: Core,
  request: PromoteImage,
  { idempotencyKey, caller }: Omit<CallerFacts, "credentials">,
): OperationView => {
  const idempotency = idempotencyKey === null ? null : { key: idempotencyKey, request };
  const known = core.operations.recall("image.promote", idempotency);
  if (known !== null) return known;
  const reference = newReference(request.name);
  const { id } = getVm(core.vms, request.vm);
  // a start that is on its way is waited for, and refused then
  if (core.vms.get(id)?.state !== "starting") requireStopped(core, id);
  const claim: NameClaim = { expect: namedContent(core.images.getImage(reference)), replace: request.replace };
  const input: PromoteInput = { request, reference, vm: id, claim };
  return core.operations.beginSaga(
    {
      spec: { kind: "image.promote", key: reference, subject: reference, caller },
      idempotency,
      saga: { name: PROMOTE_SAGA.name, input },
    },
    (operation, saga) => continuePromote(core, saga, operation),
  );
};

export const continuePromote = async (core: Core, saga: SagaRecord, operation: OperationContext): Promise<string | null> => {
  await using afterLease = new AsyncDisposableStack();
  // also where it fails: what was stored for it, and what the name led to before, is nobody's by then
  afterLease.defer(async () => void (await sweepUnused(core)));
  using lease = core.leases.begin(operation.id);
  const context: PromoteContext = { core, input: saga.input as PromoteInput, operation, lease, written: null, record: null };
  const { signal } = operation;
  const onStep = (name: string): void => operation.phase(name);
  await runSaga(PROMOTE_SAGA, { context, record: saga, log: core.sagas, signal, onStep, checkpoint: core.checkpoint });
  return context.record?.image.manifestDigest ?? null;
};

/** Under the VM's lock: a start of it waits until its disk has been read. */
const readVm = async (context: PromoteContext): Promise<Written> => {
  const { core, input, operation, lease } = context;
  const { signal } = operation;
  using _lock = await core.vmLocks.acquire(input.vm, { signal });
  const record = requireStopped(core, input.vm);
  const { name, image, imageDigest, finishedAt, createdAt } = record;
  await requireBase(core, record, { lease, signal });
  const onProgress = (done: number): void => operation.report({ done, total: null, unit: "bytes" });
  const layer = await packWritten(core, record, { lease, signal, onProgress });
  context.written = { vm: { name, image, imageDigest }, layer, writtenAt: finishedAt ?? createdAt };
  return context.written;
};

/** What the last daemon packed may have been swept: it is packed again then. */
const takeUpLayer = async (context: PromoteContext, output: unknown): Promise<void> => {
  const written = output as Written;
  const digest: Digest | null = written.layer?.digest ?? null;
  if (digest !== null) context.lease.hold(digest);
  if (digest === null || (await context.core.content.has(digest))) context.written = written;
  else await readVm(context);
};

const makeImage = async (context: PromoteContext): Promise<unknown> => {
  const { core, input, operation, lease } = context;
  const { request, reference, claim } = input;
  const held = { lease, signal: operation.signal };
  const { vm, layer, writtenAt } = context.written ?? (await readVm(context));
  const base = await requireBase(core, vm, held);
  const what = { base, reference, layer, changes: request, created: writtenAt, createdBy: "kiln image promote", comment: request.message };
  const made = await storeDerived(core, what, held);
  context.record = core.pipeline.imageRecord(reference, made);
  lease.hold(context.record.rootfsKey);
  requireNameYet(core, context.record, claim);
  return { root: made.root };
};

const takeUpImage = async (context: PromoteContext): Promise<void> => void (await makeImage(context));

/** A failure leaves blobs that nobody names, which are the sweep's. */
export const PROMOTE_SAGA: Saga<PromoteContext> = {
  name: "image.promote",
  onFailure: "undo",
  steps: [{ name: "layer", run: readVm, resume: takeUpLayer }, { name: "image", run: makeImage, resume: takeUpImage }, ...PUBLISH_STEPS],
};
