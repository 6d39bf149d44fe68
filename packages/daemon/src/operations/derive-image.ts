import { createHash } from "node:crypto";
import { type Digest, KilnError, LIMITS, type VmId } from "@kiln/protocol";
import { type Derivation, deriveConfig, deriveManifest } from "../images/derived-image.ts";
import { planImport } from "../images/import-plan.ts";
import { type NameClaim, requireName } from "../images/naming.ts";
import type { ContentLease, ContentReader, FetchedImage, ImageLayer, ResolvedImage } from "../images/ports.ts";
import type { ImageRecord } from "../images/records.port.ts";
import { canonicalReference, parseImageReference } from "../images/reference.ts";
import { STARTABLE_STATES, type VmRecord } from "../vms/record.ts";
import { LIVE_STATES } from "../vms/states.ts";
import type { Core } from "./core.ts";
import { buildRootfs, workFor } from "./images.ts";
import type { OperationContext } from "./operation.ts";
import type { SagaStep } from "./saga/saga.ts";

export type WrittenLayer = Omit<ImageLayer, "mediaType" | "format">;

interface Held {
  /** Holds all that is found or stored. */
  readonly lease: ContentLease;
  readonly signal: AbortSignal;
}

/** The name of an image that is made here. Throws REFERENCE_INVALID. */
export const newReference = (text: string): string => {
  const parsed = parseImageReference(text);
  if (parsed.transport === "docker" && parsed.digest === null) return canonicalReference(text);
  throw new KilnError("REFERENCE_INVALID", `${text} is not NAME[:TAG]`, { object: text });
};

/** The image of a manifest in the content store, held from now on; null where blobs of it are missing. */
export const findContent = async (
  core: Core,
  what: { readonly reference: string; readonly manifest: Digest },
  { lease, signal }: Held,
): Promise<ResolvedImage | null> => {
  const held: ContentReader = {
    stat: (digest) => {
      lease.hold(digest);
      return core.content.stat(digest);
    },
    read: (digest, options) => core.content.read(digest, options),
  };
  const request = { reference: what.reference, root: what.manifest, tag: null, platform: core.platform };
  const plan = await planImport(request, held, { signal });
  return plan.state === "complete" ? plan.image : null;
};

/** The image that a VM was made from, as far as another can be made from it. Throws IMAGE_CONTENT_MISSING. */
export const requireBase = async (
  core: Core,
  record: Pick<VmRecord, "image" | "imageDigest" | "name">,
  held: Held,
): Promise<ResolvedImage> => {
  const base = await findContent(core, { reference: record.image, manifest: record.imageDigest as Digest }, held);
  if (base !== null) return base;
  throw new KilnError(
    "IMAGE_CONTENT_MISSING",
    `layers of ${record.image}, from which ${record.name} was made, are not in the content store`,
    {
      ...{ object: record.image, hint: `fetch it again: \`kiln pull ${record.image}\`` },
    },
  );
};

/** The VM, while its disk is nobody else's: to be asked under its lock. Throws VM_NOT_FOUND, VM_RUNNING, VM_STATE_CONFLICT. */
export const requireStopped = (core: Core, id: VmId): VmRecord => {
  const record = core.vms.get(id);
  if (record === null) throw new KilnError("VM_NOT_FOUND", `there is no VM ${id}`, { object: id });
  if (STARTABLE_STATES.has(record.state)) return record;
  const is = `the VM ${record.name} is ${record.state}`;
  if (!LIVE_STATES.has(record.state)) throw new KilnError("VM_STATE_CONFLICT", is, { object: record.name });
  throw new KilnError("VM_RUNNING", `${is}, and its disk still changes`, {
    ...{ object: record.name, hint: `stop it first: \`kiln stop ${record.name}\`` },
  });
};

/** What a VM that does not run has written, as a layer; null where that is nothing. To be called under the VM's lock. */
export const packWritten = async (
  core: Core,
  record: VmRecord,
  { lease, signal, onProgress }: Held & { readonly onProgress: (bytes: number) => void },
): Promise<WrittenLayer | null> => {
  const [path, rootfs] = [core.disks.writableDiskPath(record.id), core.rootfsFiles.path(record.rootfsKey)];
  return core.upperLayers.pack({ path, rootfs, owner: record.name }, { lease, signal, onProgress });
};

/** Stores config and manifest of the image that lies over `base`. The same derivation gives the same image. */
export const storeDerived = async (
  core: Core,
  { base, ...what }: Omit<Derivation, "config" | "manifest"> & { readonly base: ResolvedImage; readonly reference: string },
  held: Held,
): Promise<FetchedImage> => {
  const limits = { limitBytes: LIMITS.manifestBytes, signal: held.signal };
  const [config, manifest] = await Promise.all([
    core.content.read(base.configDigest, limits),
    core.content.read(base.manifestDigest, limits),
  ]);
  const derivation: Derivation = { ...what, config, manifest };
  const ownConfig = await storeDocument(core, deriveConfig(derivation), held);
  const root = await storeDocument(core, deriveManifest(derivation, ownConfig), held);
  const image = await findContent(core, { reference: what.reference, manifest: root.digest }, held);
  if (image !== null) return { image, root: root.digest };
  throw new KilnError("IMAGE_CONTENT_MISSING", `blobs of ${what.reference} were removed while it was made`, { object: what.reference });
};

/** A config or a manifest that is made here, held from now on. */
export const storeDocument = async (core: Core, bytes: Uint8Array, { lease, signal }: Held): Promise<{ digest: Digest; size: number }> => {
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}` as Digest;
  lease.hold(digest);
  const source = async function* (): AsyncGenerator<Uint8Array> {
    yield bytes;
  };
  return core.content.ingest(source(), { expected: { digest, size: bytes.length }, signal });
};

/** Said before anything long is done for a name that cannot be had; it is decided again where the image gets it. Throws IMAGE_NAME_CONFLICT. */
export const requireNameYet = (core: Core, record: ImageRecord, claim: NameClaim): void =>
  requireName(core.images.getImage(record.reference), record, claim);

interface PublishContext {
  readonly core: Core;
  readonly operation: OperationContext;
  readonly input: { readonly claim: NameClaim };
  /** null: an earlier daemon has published it. */
  readonly record: ImageRecord | null;
}

/** How each saga ends that makes an image: it gets its name once it is whole (I43). */
export const PUBLISH_STEPS: readonly SagaStep<PublishContext>[] = [
  {
    name: "rootfs",
    run: async ({ core, operation, record }) => {
      if (record !== null) await buildRootfs(core, record, workFor(operation));
    },
  },
  {
    name: "name",
    run: async ({ core, input, record }) => {
      if (record !== null) await core.pipeline.publishImage(record, input.claim);
    },
  },
];
