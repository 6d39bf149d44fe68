import { type Digest, type ImageVerification, type OperationId } from "@kiln/protocol";
import type { Clock } from "@kiln/std";
import { wholeFileSystem } from "../images/ext4-image.ts";
import type { ContentLeases } from "../images/leases.ts";
import type { ImageRecord, ImageStore, RootfsRecord } from "../images/records.port.ts";
import type { Checkpoint } from "./checkpoints.ts";
import type { ArtifactReader, ComparedRootfs, ReadFile, RootfsChecks } from "./checks.port.ts";
import { type JoinedWork, type WorkContext, type WorkOptions, watchOf } from "./work.port.ts";

interface ImageCheckParts {
  readonly work: JoinedWork;
  readonly clock: Clock;
  readonly images: ImageStore;
  readonly leases: ContentLeases;
  readonly reader: ArtifactReader;
  readonly rootfsChecks: RootfsChecks;
  readonly checkpoint: Checkpoint;
}

type Blob = ImageVerification["blobs"][number];

export interface ReadBlob extends Blob {
  readonly digest: Digest;
  /** What was read; null for a blob that is missing. */
  readonly file: ReadFile | null;
}

/** Every blob of an image, each once, what its name led to first. */
const blobsOf = ({ root, image }: ImageRecord): Omit<ReadBlob, "state" | "file">[] => {
  const documents = [...new Set([root, image.manifestDigest, image.configDigest])].map((digest) => ({
    ...{ digest, kind: "document" as const, sizeBytes: null },
  }));
  const layers = new Map(image.layers.map(({ digest, size }) => [digest, { digest, kind: "layer" as const, sizeBytes: size }]));
  return [...documents, ...layers.values()];
};

/** Reads images in full, and builds their rootfs again: each once for all who ask at that time. */
export class ImageChecks {
  readonly #parts: ImageCheckParts;

  constructor(parts: ImageCheckParts) {
    this.#parts = parts;
  }

  /** Whether the image's blobs are what their names say, and its rootfs what its record says and its layers give. Changes nothing. */
  verify(image: ImageRecord, options: WorkOptions): Promise<ImageVerification> {
    return this.#parts.work.run(
      {
        kind: "image.check",
        key: [image.reference, image.root, image.image.manifestDigest].join(" "),
        subject: image.reference,
        find: async () => null,
        make: (context) => this.#verify(image, context),
        describe: (found) => (found.ok ? "whole" : "damaged"),
      },
      options,
    );
  }

  async #verify(image: ImageRecord, context: WorkContext): Promise<ImageVerification> {
    const { images, checkpoint } = this.#parts;
    using lease = this.#parts.leases.begin(context.operation);
    lease.hold(image.rootfsKey);
    for (const { digest } of blobsOf(image)) lease.hold(digest);
    await checkpoint("check.begun");
    const blobs = await this.readBlobs(image, context);
    const record = images.getRootfs(image.rootfsKey);
    const found = await this.#readRootfs(image, record, context);
    const compared = await this.#compare(image, { blobs, context });
    const recorded = record?.digest ?? null;
    const isRootfsWhole = found === recorded && (compared === null || recorded === null || compared.digest === recorded);
    return {
      ...{ kind: "image.verify", reference: image.reference, digest: image.image.manifestDigest, rootfsKey: image.rootfsKey },
      ...{ recorded, found, rebuilt: compared?.digest ?? null, difference: compared?.difference ?? null },
      blobs: blobs.map(({ digest, kind, sizeBytes, state }) => ({ digest, kind, sizeBytes, state })),
      ok: isRootfsWhole && blobs.every(({ state }) => state === "whole"),
    };
  }

  /** null where the layers are not whole, or there are none. */
  async #compare(
    image: ImageRecord,
    { blobs, context }: { blobs: readonly ReadBlob[]; context: WorkContext },
  ): Promise<ComparedRootfs | null> {
    const layers = blobs.filter(({ kind }) => kind === "layer");
    if (layers.length === 0 || layers.some(({ state }) => state !== "whole")) return null;
    // its rootfs is the blob, which was read
    const own = wholeFileSystem(image.image);
    if (own !== null) return { digest: own.digest, difference: null };
    return this.#parts.rootfsChecks.compare(image.image, image.rootfsKey, watchOf(context));
  }

  /** Every blob of the image, read in full. */
  async readBlobs(image: ImageRecord, context: Pick<WorkContext, "signal" | "phase" | "report">): Promise<ReadBlob[]> {
    context.phase("read blobs");
    const blobs = blobsOf(image);
    const onRead = counting(
      context,
      blobs.reduce((sum, { sizeBytes }) => sum + (sizeBytes ?? 0), 0),
    );
    const read: ReadBlob[] = [];
    for (const blob of blobs) {
      const file = await this.#parts.reader.blob(blob.digest, { signal: context.signal, onRead });
      read.push({ ...blob, file, state: file === null ? "missing" : file.digest === blob.digest ? "whole" : "damaged" });
    }
    return read;
  }

  async #readRootfs(image: ImageRecord, record: RootfsRecord | null, context: WorkContext): Promise<Digest | null> {
    if (record === null) return null;
    context.phase("read rootfs");
    const onRead = counting(context, record.fingerprint.size);
    return (await this.#parts.reader.rootfs(image.rootfsKey, { signal: context.signal, onRead }))?.digest ?? null;
  }

  /** The operation that whoever asks for a rebuild now would join. */
  rebuilding(rootfsKey: string): OperationId | null {
    return this.#parts.work.inFlight("rootfs.rebuild", rootfsKey);
  }

  /**
   * Builds the rootfs again whether it is there or not, checks the new one, and puts it in the place of the old one
   * (I14): a failure leaves that. The caller's lease holds the layers.
   */
  rebuildRootfs(image: ImageRecord, options: WorkOptions): Promise<RootfsRecord> {
    const { images, work, rootfsChecks, clock, checkpoint } = this.#parts;
    const key = image.rootfsKey;
    return work.run(
      {
        kind: "rootfs.rebuild",
        key,
        subject: image.reference,
        find: async () => null,
        make: async (context) => {
          using lease = this.#parts.leases.begin(context.operation);
          for (const name of [key, ...image.image.layers.map(({ digest }) => digest)]) lease.hold(name);
          await checkpoint("rebuild.begun");
          const built = await rootfsChecks.rebuild(image.image, key, watchOf(context));
          await checkpoint("rebuild.published");
          const record: RootfsRecord = { key, ...built, createdAt: new Date(clock.now()).toISOString() };
          images.putRootfs(record);
          return record;
        },
        describe: (record) => record.digest,
      },
      options,
    );
  }
}

const counting = (context: Pick<WorkContext, "report">, total: number): ((bytes: number) => void) => {
  let done = 0;
  return (bytes) => {
    done += bytes;
    context.report({ done, total: Math.max(done, total), unit: "bytes" });
  };
};
