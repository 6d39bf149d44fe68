import { KilnError } from "@kiln/protocol";
import type { Clock } from "@kiln/std";
import { parseSupportedReference } from "../images/reference.ts";
import type { ResolvedImage } from "../images/ports.ts";
import type { ContentLeases } from "../images/leases.ts";
import type { ImageRecord, ImageStore, RootfsRecord } from "../images/records.port.ts";
import type { KernelRecord, KernelStore } from "../kernels/records.port.ts";
import type { Checkpoint } from "./checkpoints.ts";
import type { ImageContent, ImageSource, KernelSets, RootfsFiles } from "./artifacts.port.ts";
import type { JoinedWork, WorkContext, WorkOptions } from "./work.port.ts";

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
}

const KERNEL_NAME = "debian-cloud";

/** From a name to the artifacts a VM boots from. Each step is keyed, joined, and done only where its result is not there. */
export class Pipeline {
  readonly #parts: PipelineParts;

  constructor(parts: PipelineParts) {
    this.#parts = parts;
  }

  /** The image under `reference`; fetched where it is missing, or in any case with `pull: "always"`. Throws REFERENCE_INVALID, IMAGE_NOT_FOUND. */
  async ensureImage(reference: string, options: WorkOptions & { pull: "missing" | "always" | "never" }): Promise<ImageRecord> {
    const { images, work, sources } = this.#parts;
    parseSupportedReference(reference);
    const source = sources.find((one) => one.accepts(reference));
    const find = async (): Promise<ImageRecord | null> => {
      const record = images.getImage(reference);
      if (record === null || (options.pull === "always" && source !== undefined)) return null;
      return (await this.#isUsable(record)) ? record : null;
    };
    const record = source === undefined || options.pull === "never" ? await find() : null;
    if (record !== null) return record;
    if (source === undefined || options.pull === "never") {
      throw new KilnError("IMAGE_NOT_FOUND", `there is no image ${reference}, and it is not to be pulled`, { object: reference });
    }
    return work.run(
      {
        kind: "image.pull",
        key: reference,
        subject: reference,
        find,
        make: async (context) => {
          using _lease = this.#parts.leases.begin();
          const fetched = await source.fetch(reference, buildOptions(context));
          await this.#parts.checkpoint("image.fetched");
          return this.recordImage(reference, fetched);
        },
        describe: (made) => made.image.manifestDigest,
      },
      options,
    );
  }

  /** A rootfs that is there makes the layers unnecessary for a boot. */
  async #isUsable(record: ImageRecord): Promise<boolean> {
    return this.#parts.images.getRootfs(record.rootfsKey) !== null || (await this.#parts.content.isComplete(record.image));
  }

  /** Names an image whose content is complete. */
  recordImage(reference: string, image: ResolvedImage): ImageRecord {
    const { images, clock, rootfsKey } = this.#parts;
    const record: ImageRecord = {
      reference,
      image: { ...image, reference },
      rootfsKey: rootfsKey(image),
      createdAt: new Date(clock.now()).toISOString(),
    };
    images.putImage(record);
    return record;
  }

  /** The rootfs of an image, whole. A damaged one is noticed here and built again (I7). */
  async ensureRootfs(image: ImageRecord, options: WorkOptions): Promise<RootfsRecord> {
    const { images, work, rootfsFiles, clock, content, checkpoint } = this.#parts;
    const key = image.rootfsKey;
    return work.run(
      {
        kind: "rootfs.build",
        key,
        subject: image.reference,
        find: async ({ signal }) => {
          const record = images.getRootfs(key);
          if (record === null || (await rootfsFiles.isWhole(record, { signal }))) return record;
          images.forgetRootfs(key);
          return null;
        },
        make: async (context) => {
          if (!(await content.isComplete(image.image))) {
            throw new KilnError("IMAGE_CONTENT_MISSING", `layers of ${image.reference} are not in the content store`, {
              object: image.reference,
            });
          }
          await checkpoint("rootfs.begun");
          const built = await rootfsFiles.build(image.image, key, buildOptions(context));
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
          kernels.forgetKernel(record.key);
          return null;
        },
        make: async (context) => {
          await checkpoint("kernel.begun");
          const record = await kernelSets.build(buildOptions(context));
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

const buildOptions = (context: WorkContext) => ({
  signal: context.signal,
  onPhase: (name: string) => context.phase(name),
  onProgress: (progress: { done: number; total: number | null; unit: string }) => context.report(progress),
});
