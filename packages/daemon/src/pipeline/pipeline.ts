import { type Platform, platformText } from "@kiln/formats/oci";
import { KilnError, type OperationId, type OperationPart } from "@kiln/protocol";
import type { Clock } from "@kiln/std";
import { suits } from "../images/host-platform.ts";
import { wholeFileSystem } from "../images/ext4-image.ts";
import { type NameClaim, namedContent } from "../images/naming.ts";
import { canonicalReference, findImage } from "../images/reference.ts";
import { isSameRootfs } from "../images/rootfs-record.ts";
import type { ContentLease, FetchedImage, ImageSource, ResolvedImage, SourceRequest } from "../images/ports.ts";
import type { ContentLeases } from "../images/leases.ts";
import type { ImageRecord, ImageStore, RootfsRecord } from "../images/records.port.ts";
import type { KernelRecord, KernelStore } from "../kernels/records.port.ts";
import type { Checkpoint } from "./checkpoints.ts";
import type { ImageContent, KernelSets, RootfsFiles } from "./artifacts.port.ts";
import { shareBlob } from "./share-blob.ts";
import { type JoinedWork, type WorkContext, type WorkOptions, watchOf } from "./work.port.ts";

export interface PipelineParts {
  readonly work: JoinedWork;
  readonly clock: Clock;
  readonly images: ImageStore;
  readonly kernels: KernelStore;
  readonly sources: readonly ImageSource[];
  readonly content: ImageContent;
  readonly leases: ContentLeases;
  readonly rootfsFiles: RootfsFiles;
  readonly kernelSets: KernelSets;
  readonly checkpoint: Checkpoint;
  readonly rootfsKey: (image: ResolvedImage) => string;
  /** What guests on this host are. */
  readonly platform: Platform;
  /** A short name for a secret, which does not tell it; other in each daemon. */
  readonly distinguish: (secret: string) => string;
}

export interface WantedImage extends SourceRequest {
  /** As a person wrote it. */
  readonly reference: string;
  readonly pull: "missing" | "always" | "never";
  /** Gets the key of the image's rootfs to hold. */
  readonly lease: ContentLease;
}

/** The kernel that guests are booted with. */
export const KERNEL_NAME = "debian-cloud";

/** From a name to the artifacts a VM boots from. Each step is keyed, joined, and done only where its result is not there. */
export class Pipeline {
  readonly #parts: PipelineParts;

  constructor(parts: PipelineParts) {
    this.#parts = parts;
  }

  /**
   * The image under a name; fetched where it is missing or for another platform, or looked up again with
   * `pull: "always"`. What it stands on is held by the caller's lease when this returns.
   * Throws REFERENCE_INVALID, IMAGE_NOT_FOUND, and what its source throws.
   */
  async ensureImage(wanted: WantedImage, options: WorkOptions): Promise<ImageRecord> {
    const { images } = this.#parts;
    for (;;) {
      const record = await this.#findOrFetch(wanted, options);
      wanted.lease.hold(record.rootfsKey);
      // a peer may have removed it between the end of the work and this turn
      if (images.getImage(record.reference) !== null) return record;
      options.signal.throwIfAborted();
    }
  }

  async #findOrFetch(wanted: WantedImage, options: WorkOptions): Promise<ImageRecord> {
    const { images, sources } = this.#parts;
    const local = findImage(wanted.reference, images);
    const reference = local?.reference ?? canonicalReference(wanted.reference);
    const platform = wanted.platform ?? this.#parts.platform;
    const source = sources.find((one) => one.accepts(reference));
    const find = async (): Promise<ImageRecord | null> => {
      const record = images.getImage(reference);
      if (record === null) return null;
      wanted.lease.hold(record.rootfsKey);
      return suits(record.image.platform, platform) && (await this.#isUsable(record)) ? record : null;
    };
    // what a person has registered here is another image than the one that a registry may have under its name
    const isOwn = wanted.pull === "missing" && local !== null && wholeFileSystem(local.image) !== null;
    if (source === undefined || isOwn || wanted.pull === "never") {
      const record = await find();
      if (record !== null) return record;
      throw notFound(reference, images.getImage(reference), { platform, pull: wanted.pull });
    }
    const fetch = { ...wanted, reference, platform };
    return this.#parts.work.run(
      {
        kind: "image.pull",
        key: this.#pullKey(fetch),
        subject: reference,
        find: wanted.pull === "always" ? async () => null : find,
        make: (context) => this.#fetch(source, fetch, { context, find }),
        describe: (made) => made.image.manifestDigest,
      },
      options,
    );
  }

  /** The work of others that whoever wants this image, and perhaps a kernel, will join; null where they find all of it, or begin it. */
  inFlight(wanted: Omit<WantedImage, "lease">, options: { kernel: boolean }): OperationId | null {
    const { images, work } = this.#parts;
    const local = findImage(wanted.reference, images);
    const reference = local?.reference ?? canonicalReference(wanted.reference);
    const pulls = wanted.pull === "always" || (wanted.pull === "missing" && local === null);
    const platform = wanted.platform ?? this.#parts.platform;
    return (
      (pulls ? work.inFlight("image.pull", this.#pullKey({ ...wanted, reference, platform })) : null) ??
      (local === null ? null : work.inFlight("rootfs.build", local.rootfsKey)) ??
      (options.kernel ? work.inFlight("kernel.build", KERNEL_NAME) : null)
    );
  }

  /** Who may ask for the same, but would ask the registry differently, does not share an answer; blobs are shared all the same. */
  #pullKey({ reference, platform, plainHttp, credentials }: Omit<WantedImage, "lease"> & { platform: Platform }): string {
    const who = Object.keys(credentials).length === 0 ? [] : [this.#parts.distinguish(JSON.stringify(credentials))];
    return [reference, platformText(platform), ...(plainHttp ? ["plain-http"] : []), ...who].join(" ");
  }

  async #fetch(
    source: ImageSource,
    wanted: WantedImage & { platform: Platform },
    { context, find }: { context: WorkContext; find: () => Promise<ImageRecord | null> },
  ): Promise<ImageRecord> {
    const { reference, platform, credentials, plainHttp } = wanted;
    using lease = this.#parts.leases.begin(context.operation);
    const request = { ...watchOf(context), credentials, plainHttp };
    const before = this.#parts.images.getImage(reference);
    const present = await find();
    // a name that leads where it led costs one question, and nothing is fetched
    if (present !== null && (await source.resolve(reference, request)) === present.root && (await this.#isComplete(present)))
      return present;
    try {
      const fetched = await source.fetch(reference, {
        ...{ ...request, platform, lease, onParts: (parts: readonly OperationPart[]) => context.parts(parts) },
        share: (blob, options) => shareBlob({ work: this.#parts.work, operation: context.operation }, blob, options),
      });
      await this.#parts.checkpoint("image.fetched");
      const record = this.imageRecord(reference, fetched);
      await this.publishImage(record, { expect: namedContent(before), replace: true });
      return record;
    } catch (error) {
      // whoever wants what the name leads to, wants what it leads to now
      const named = wanted.pull === "missing" && isNameConflict(error) ? await find() : null;
      if (named !== null) return named;
      // where there is no room, whole layers of half an image are in the way
      if (!isDiskFull(error)) lease.linger();
      throw error;
    }
  }

  /** A blob that was damaged has gone, whether a boot needs it or not. */
  #isComplete({ image }: ImageRecord): Promise<boolean> {
    return this.#parts.content.isComplete(image);
  }

  /** A rootfs that is there makes the layers unnecessary for a boot. */
  async #isUsable(record: ImageRecord): Promise<boolean> {
    return this.#parts.images.getRootfs(record.rootfsKey) !== null || (await this.#parts.content.isComplete(record.image));
  }

  /** What is recorded of an image under a name. */
  imageRecord(reference: string, { image, root }: FetchedImage): ImageRecord {
    const { clock, rootfsKey } = this.#parts;
    return {
      reference,
      image: { ...image, reference },
      root,
      rootfsKey: rootfsKey(image),
      createdAt: new Date(clock.now()).toISOString(),
    };
  }

  /**
   * Names an image whose content is complete, and held by a lease of the caller's: by one rule for all who publish
   * under a name (I3). Throws IMAGE_NAME_CONFLICT; then the name leads where it led.
   */
  async publishImage(record: ImageRecord, { tagOf = null, ...claim }: NameClaim & { readonly tagOf?: string | null }): Promise<void> {
    await this.#parts.checkpoint("image.naming");
    this.#parts.images.putImage(record, { tagOf, claim });
  }

  /** The rootfs of an image, whole. A damaged one is noticed here and built again (I7). */
  async ensureRootfs(image: ImageRecord, options: WorkOptions): Promise<RootfsRecord> {
    const { images, work, rootfsFiles, clock, content, checkpoint, leases } = this.#parts;
    const key = image.rootfsKey;
    return work.run(
      {
        kind: "rootfs.build",
        key,
        subject: image.reference,
        find: async ({ signal }) => {
          const record = images.getRootfs(key);
          if (record === null || (await rootfsFiles.isWhole(record, { signal }))) return record;
          // who rebuilds may have put another one in its place while this was read
          if (isSameRootfs(images.getRootfs(key), record)) images.forgetRootfs(key);
          return images.getRootfs(key);
        },
        make: async (context) => {
          using lease = leases.begin(context.operation);
          for (const { digest } of image.image.layers) lease.hold(digest);
          if (!(await content.isComplete(image.image))) {
            throw new KilnError("IMAGE_CONTENT_MISSING", `layers of ${image.reference} are not in the content store`, {
              object: image.reference,
            });
          }
          await checkpoint("rootfs.begun");
          const built = await rootfsFiles.build(image.image, key, watchOf(context));
          const record: RootfsRecord = { key, ...built, createdAt: new Date(clock.now()).toISOString() };
          await checkpoint("rootfs.published");
          images.putRootfs(record);
          return record;
        },
        describe: (record) => record.digest,
      },
      options,
    );
  }

  /** The newest kernel set that this Kiln's agent is in; built where there is none. */
  async ensureKernel(options: WorkOptions): Promise<KernelRecord> {
    const { kernels, kernelSets, work, checkpoint } = this.#parts;
    let damaged: KernelRecord | null = null;
    return work.run(
      {
        kind: "kernel.build",
        key: KERNEL_NAME,
        subject: KERNEL_NAME,
        find: async ({ signal }) => {
          const builderDigest = await kernelSets.builderDigest();
          const record = kernels.listKernels().find((one) => one.name === KERNEL_NAME && one.builderDigest === builderDigest);
          if (record === undefined) return null;
          if (await kernelSets.isWhole(record, { signal })) return record;
          damaged = record;
          return null;
        },
        make: async (context) => {
          // not before: until it is this caller's turn, another one may put a whole one in its place
          if (damaged !== null) kernels.forgetKernel(damaged.key);
          await checkpoint("kernel.begun");
          const record = await kernelSets.build(watchOf(context));
          await checkpoint("kernel.published");
          kernels.putKernel(record);
          return record;
        },
        describe: (record) => record.digest,
      },
      options,
    );
  }
}

const isNameConflict = (error: unknown): boolean => error instanceof KilnError && error.code === "IMAGE_NAME_CONFLICT";

export const isDiskFull = (error: unknown): boolean => error instanceof KilnError && error.code === "DISK_FULL";

const notFound = (reference: string, other: ImageRecord | null, wanted: { platform: Platform; pull: WantedImage["pull"] }): KilnError => {
  const platform = platformText(wanted.platform);
  if (other !== null && !suits(other.image.platform, wanted.platform)) {
    return new KilnError(
      "IMAGE_PLATFORM_MISSING",
      `the image ${reference} is for ${platformText(other.image.platform)}, not for ${platform}`,
      {
        object: reference,
      },
    );
  }
  if (other !== null && wholeFileSystem(other.image) !== null) {
    return new KilnError("IMAGE_CONTENT_MISSING", `the file system of the image ${reference} is missing or damaged`, {
      ...{ object: reference, hint: "send it again with `kiln image register` or `kiln image import`" },
    });
  }
  const why = wanted.pull === "never" ? "it is not to be pulled" : "it comes from a file that is not at hand";
  return new KilnError("IMAGE_NOT_FOUND", `there is no image ${reference}, and ${why}`, { object: reference });
};
