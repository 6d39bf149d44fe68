import { createHash } from "node:crypto";
import { type CustomizeImage, DEFAULTS, type Digest, KilnError, type OperationView, type RegistryCredentials } from "@kiln/protocol";
import { platformText } from "@kiln/formats/oci";
import { parsePlatform, suits } from "../images/host-platform.ts";
import { type NameClaim, namedContent } from "../images/naming.ts";
import type { ContentLease, FetchedImage } from "../images/ports.ts";
import type { ImageRecord } from "../images/records.port.ts";
import type { WorkContext } from "../pipeline/work.port.ts";
import { BuilderVm } from "./builder-vm.ts";
import { type Core, nowIso } from "./core.ts";
import {
  findContent,
  newReference,
  packWritten,
  PUBLISH_STEPS,
  requireBase,
  requireNameYet,
  requireStopped,
  storeDerived,
} from "./derive-image.ts";
import { buildRootfs, type CallerFacts, fetchImage, sourceRequest, workFor } from "./images.ts";
import type { OperationContext } from "./operation.ts";
import { OutputTail } from "./output-tail.ts";
import { runSaga, type Saga, type SagaRecord } from "./saga/saga.ts";
import { sweepUnused } from "./sweep.ts";

/** Changes whenever the same inputs would be run otherwise. */
const RECIPE_VERSION = 1;

interface CustomizeInput {
  readonly request: CustomizeImage;
  readonly reference: string;
  readonly claim: NameClaim;
}

/** What the commands run on: the image as it was when this was asked for. JSON. */
type Base = Pick<ImageRecord, "reference" | "root"> & { readonly manifest: Digest };

export interface CustomizeContext {
  readonly core: Core;
  readonly input: CustomizeInput;
  readonly operation: OperationContext;
  /** They are in no record: a daemon that takes it up again asks the registry as a stranger. */
  readonly credentials: RegistryCredentials;
  readonly lease: ContentLease;
  base: ImageRecord | null;
  record: ImageRecord | null;
}

/** An image of what commands leave in a VM of another: run once for all who ask for the same, and remembered. */
export const beginCustomizeImage = (
  core: Core,
  request: CustomizeImage,
  { idempotencyKey, credentials, caller }: CallerFacts,
): OperationView => {
  const reference = newReference(request.name);
  requireOwnPlatform(core, request);
  const claim: NameClaim = { expect: namedContent(core.images.getImage(reference)), replace: request.replace };
  const input: CustomizeInput = { request, reference, claim };
  return core.operations.beginSaga(
    {
      spec: { kind: "image.customize", key: reference, subject: reference, caller },
      idempotency: idempotencyKey === null ? null : { key: idempotencyKey, request },
      saga: { name: CUSTOMIZE_SAGA.name, input },
    },
    (operation, saga) => continueCustomize(core, { saga, operation, credentials }),
  );
};

export const continueCustomize = async (
  core: Core,
  held: { readonly saga: SagaRecord } & Pick<CustomizeContext, "operation" | "credentials">,
): Promise<string | null> => {
  const { saga, operation, credentials } = held;
  await using afterLease = new AsyncDisposableStack();
  // also where it fails: what was stored for it, and what the name led to before, is nobody's by then
  afterLease.defer(async () => void (await sweepUnused(core)));
  using lease = core.leases.begin(operation.id);
  const context: CustomizeContext = {
    ...{ core, input: saga.input as CustomizeInput, operation, credentials, lease },
    ...{ base: null, record: null },
  };
  const { signal } = operation;
  const onStep = (name: string): void => operation.phase(name);
  await runSaga(CUSTOMIZE_SAGA, { context, record: saga, log: core.sagas, signal, onStep, checkpoint: core.checkpoint });
  return context.record?.image.manifestDigest ?? null;
};

const fetchBase = async (context: CustomizeContext): Promise<Base> => {
  const { core, input, operation, credentials, lease } = context;
  const { request } = input;
  const wanted = { ...sourceRequest(request, credentials), reference: request.image, pull: request.pull, lease };
  const { record } = await fetchImage(core, wanted, workFor(operation));
  const manifest = record.image.manifestDigest;
  // a rootfs that is there is enough to boot from, but not to make another image of
  const { reference, root } = record;
  await requireBase(core, { image: reference, imageDigest: manifest, name: input.reference }, { lease, signal: operation.signal });
  context.base = record;
  return { reference, root, manifest };
};

/** Commands are run on what the first daemon found; where that is gone, on what there is now. */
const takeUpBase = async (context: CustomizeContext, output: unknown): Promise<void> => {
  const { core, operation, lease } = context;
  const { reference, root, manifest } = output as Base;
  const image = await findContent(core, { reference, manifest }, { lease, signal: operation.signal });
  if (image === null) await fetchBase(context);
  else context.base = core.pipeline.imageRecord(reference, { image, root });
};

/** The same key gives the same image: it names all that the result depends on, and nothing that it does not. */
const customizationKey = (base: ImageRecord, request: CustomizeImage): string => {
  const { run, env, workingDir, user, network, command, entrypoint, labels } = request;
  const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  const parts = {
    recipe: RECIPE_VERSION,
    base: base.image.manifestDigest,
    run,
    env,
    workingDir,
    user,
    network,
    command,
    entrypoint,
    labels: sorted,
  };
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
};

const requireBaseRecord = async (context: CustomizeContext): Promise<ImageRecord> => {
  if (context.base === null) await fetchBase(context);
  if (context.base === null) throw new KilnError("INTERNAL", "an image is to be customized and its base was not found");
  return context.base;
};

/** Found, joined or made; what it is made of is held by this caller's own lease when this returns. */
const ensureCustomized = async (context: CustomizeContext): Promise<unknown> => {
  const { core, input, operation, lease } = context;
  const { request, reference, claim } = input;
  const base = await requireBaseRecord(context);
  const key = customizationKey(base, request);
  const find = async (signal: AbortSignal): Promise<FetchedImage | null> => {
    const manifest = core.customizations.getCustomization(key)?.manifest as Digest | undefined;
    const image = manifest === undefined ? null : await findContent(core, { reference, manifest }, { lease, signal });
    return image === null ? null : { image, root: image.manifestDigest };
  };
  // commands that ran again would give other bytes: their time is not spent on a name that cannot be had
  if (!claim.replace && claim.expect !== null && (request.noCache || (await find(operation.signal)) === null)) {
    throw new KilnError("IMAGE_NAME_CONFLICT", `what the commands make was to be published under ${reference}, which is another image`, {
      object: reference,
    });
  }
  for (;;) {
    await core.work.run<FetchedImage>(
      {
        kind: "customize.run",
        key,
        subject: reference,
        find: async ({ signal }) => (request.noCache ? null : find(signal)),
        make: (work) => customize(core, { request, reference, base, key }, work),
        describe: ({ root }) => root,
      },
      workFor(operation),
    );
    const made = await find(operation.signal);
    operation.signal.throwIfAborted();
    if (made === null) continue; // it was swept before this caller could hold it
    context.record = core.pipeline.imageRecord(reference, made);
    lease.hold(context.record.rootfsKey);
    requireNameYet(core, context.record, claim);
    return { root: made.root };
  }
};

interface Customization {
  readonly request: CustomizeImage;
  readonly reference: string;
  readonly base: ImageRecord;
  readonly key: string;
}

/** Several stages, none of which anybody sees before the last: blobs that no record names are the sweep's (I43). */
const customize = async (core: Core, what: Customization, work: WorkContext): Promise<FetchedImage> => {
  const { request, reference, base, key } = what;
  const { signal, operation } = work;
  using lease = core.leases.begin(operation);
  const held = { lease, signal };
  lease.hold(base.rootfsKey);
  await requireBase(core, { image: base.reference, imageDigest: base.image.manifestDigest, name: reference }, held);
  await core.checkpoint("customize.begun");
  const layer = await runAndPack(core, what, { work, lease });
  await core.checkpoint("customize.packed");
  const { env: _env, workingDir: _dir, user: _user, ...changes } = request;
  const made = await storeDerived(
    core,
    {
      ...{
        base: base.image,
        reference,
        layer,
        created: null,
        comment: "",
        createdBy: request.run.map((one) => `/bin/sh -c ${one}`).join("\n"),
      },
      changes: { ...changes, env: [], workingDir: null, user: null },
    },
    held,
  );
  await core.checkpoint("customize.stored");
  core.customizations.putCustomization({ key, manifest: made.root, createdAt: nowIso(core) });
  return made;
};

const runAndPack = async (core: Core, what: Customization, { work, lease }: { work: WorkContext; lease: ContentLease }) => {
  const { request, reference, base } = what;
  const { signal, operation } = work;
  const [rootfs, kernel] = [await buildRootfs(core, base, { signal, operation }), await core.pipeline.ensureKernel({ signal, operation })];
  const { network, cpus = DEFAULTS.cpus, memoryBytes = DEFAULTS.memoryBytes } = request;
  work.phase("boot");
  await using vm = await BuilderVm.start(core, { subject: reference, base, rootfs, kernel, network, cpus, memoryBytes }, work);
  await core.checkpoint("customize.booted");
  const tail = new OutputTail(core.clock, (output) => work.output(output));
  const { env, workingDir, user } = request;
  for (const [index, text] of request.run.entries()) {
    const place = `${index + 1} of ${request.run.length}`;
    work.phase(`run ${place}`);
    await vm.run({ text, place, env, workingDir, user }, tail);
    await core.checkpoint("customize.ran");
  }
  work.phase("stop");
  await vm.stop();
  await core.checkpoint("customize.stopped");
  work.phase("layer");
  using _lock = await core.vmLocks.acquire(vm.id, { signal });
  const onProgress = (done: number): void => work.report({ done, total: null, unit: "bytes" });
  return await packWritten(core, requireStopped(core, vm.id), { lease, signal, onProgress });
};

/** A failure leaves blobs that nobody names, which are the sweep's. */
export const CUSTOMIZE_SAGA: Saga<CustomizeContext> = {
  name: "image.customize",
  onFailure: "undo",
  steps: [
    { name: "base", run: fetchBase, resume: takeUpBase },
    { name: "commands", run: ensureCustomized, resume: async (context) => void (await ensureCustomized(context)) },
    ...PUBLISH_STEPS,
  ],
};

/** Said before anything is fetched. */
const requireOwnPlatform = (core: Core, { image, platform }: CustomizeImage): void => {
  if (platform === null || suits(core.platform, parsePlatform(platform))) return;
  throw new KilnError("IMAGE_PLATFORM_MISSING", `${image} is wanted for ${platform}, and guests here are ${platformText(core.platform)}`, {
    ...{ object: image, hint: "leave out --platform" },
  });
};
