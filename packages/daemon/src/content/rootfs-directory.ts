import { join } from "node:path";
import { layerEncoding } from "@kiln/formats/oci";
import { type Digest, isDigest, KilnError, type Progress } from "@kiln/protocol";
import { type FileFingerprint, Semaphore } from "@kiln/std";
import { linkOrCopy, publishFile, publishLink, removeFileNow } from "@kiln/std/node";
import { wholeFileSystem } from "../images/ext4-image.ts";
import type { ImageLayer, ResolvedImage } from "../images/ports.ts";
import type { RootfsRecord } from "../images/records.port.ts";
import { inspectImage } from "./ext4-image/inspect.ts";
import { KnownFiles } from "./known-files.ts";
import { requireRoom } from "./room.ts";
import { type BuiltRootfs, buildRootfs, type RootfsLimits } from "./rootfs/index.ts";

export interface BuildWatch {
  readonly signal: AbortSignal;
  readonly onPhase: (name: string) => void;
  readonly onProgress: (progress: Progress) => void;
}

/** Two images never wait for each other alone (I2). */
const BUILDS_AT_ONCE = 2;

/** `<home>/rootfs/<key>.ext4`, mode 0444, each a pure function of its key. */
export class RootfsDirectory {
  readonly #directory: string;
  readonly #stagingDir: string;
  readonly #blobPath: (digest: Digest) => string;
  readonly #limits: Partial<RootfsLimits>;
  readonly #files = new KnownFiles();
  readonly #builders: Semaphore;

  /** `limits`: those that are not the builder's own. `buildsAtOnce`: each takes a core and some of its memory; others wait. */
  constructor(options: {
    directory: string;
    stagingDir: string;
    blobPath: (digest: Digest) => string;
    limits?: Partial<RootfsLimits>;
    buildsAtOnce?: number;
  }) {
    this.#builders = new Semaphore(options.buildsAtOnce ?? BUILDS_AT_ONCE);
    this.#directory = options.directory;
    this.#stagingDir = options.stagingDir;
    this.#blobPath = options.blobPath;
    this.#limits = options.limits ?? {};
  }

  path(key: string): string {
    return join(this.#directory, `${key}.ext4`);
  }

  /** `verify` looks at the staged file before it gets its name. */
  async build(
    image: ResolvedImage,
    key: string,
    watch: BuildWatch & { readonly verify?: (path: string, digest: Digest) => Promise<void> },
  ): Promise<{ digest: Digest; fingerprint: FileFingerprint }> {
    const { signal, verify } = watch;
    const blob = wholeFileSystem(image);
    if (blob !== null) return this.#publishBlob(blob, { reference: image.reference, key }, watch);
    const written = Promise.withResolvers<Digest>();
    const published = await publishFile({
      target: this.path(key),
      stagingDir: this.#stagingDir,
      mode: 0o444,
      ifExists: "replace",
      signal,
      write: async (_file, path) => written.resolve(await this.write(image, key, { ...watch, path })),
      verify: async (path) => verify?.(path, await written.promise),
    });
    const { size, ino, mtimeNs, ctimeNs } = published;
    return { digest: await written.promise, fingerprint: { size, ino, mtimeNs, ctimeNs } };
  }

  /** The blob itself gets a further name, once all of it has been read. */
  async #publishBlob(
    blob: ImageLayer,
    { reference, key }: { readonly reference: string; readonly key: string },
    watch: BuildWatch,
  ): Promise<{ digest: Digest; fingerprint: FileFingerprint }> {
    await this.#check(blob, reference, watch);
    const target = { target: this.path(key), stagingDir: this.#stagingDir, mode: 0o444, signal: watch.signal };
    return { digest: blob.digest, fingerprint: await publishLink({ ...target, source: this.#blobPath(blob.digest) }) };
  }

  async #check(blob: ImageLayer, reference: string, { signal, onPhase, onProgress }: BuildWatch): Promise<void> {
    onPhase("check file system");
    const onDone = (done: number): void => onProgress({ done, total: blob.size, unit: "bytes" });
    const { digest } = await inspectImage(this.#blobPath(blob.digest), reference, { signal, onProgress: onDone });
    if (digest === blob.digest && digest === blob.diffId) return;
    const expected = digest === blob.digest ? blob.diffId : blob.digest;
    throw new KilnError("LAYER_INVALID", `the file system of ${reference} is ${digest}, not ${expected}`, { object: reference });
  }

  /** Builds it at a path in staging, and nothing more. */
  async write(image: ResolvedImage, key: string, watch: BuildWatch & { readonly path: string }): Promise<Digest> {
    const { signal, onProgress, path } = watch;
    const blob = wholeFileSystem(image);
    if (blob !== null) {
      await this.#check(blob, image.reference, watch);
      await linkOrCopy(this.#blobPath(blob.digest), path);
      return blob.digest;
    }
    watch.onPhase("queue");
    using _turn = await this.#builders.acquire({ signal });
    watch.onPhase("build rootfs");
    const layers = image.layers.map((layer) => ({
      path: this.#blobPath(layer.digest),
      mediaType: layerEncoding(layer.mediaType),
      diffId: layer.diffId,
    }));
    // what layers unpack to is known at the end only; it is no less than they are packed
    const least = image.layers.reduce((sum, layer) => sum + layer.size, 0);
    await requireRoom(this.#stagingDir, { bytes: least, what: `the rootfs of ${image.reference}`, object: image.reference });
    const { digest } = await named(
      image.reference,
      buildRootfs({ layers, target: path, key, limits: this.#limits }, { signal, onProgress }),
    );
    return parseDigest(digest);
  }

  async isWhole({ key, digest, fingerprint }: RootfsRecord, options: { signal: AbortSignal }): Promise<boolean> {
    const sha256 = digest.slice("sha256:".length);
    return this.#files.isWhole({ path: this.path(key), size: fingerprint.size, sha256, fingerprint }, options);
  }

  removeNow(key: string): number {
    this.#files.forget(this.path(key));
    return removeFileNow(this.path(key));
  }
}

/** The builder knows layers only; people know the image. */
const named = async (reference: string, building: Promise<BuiltRootfs>): Promise<BuiltRootfs> => {
  try {
    return await building;
  } catch (error) {
    if (!(error instanceof KilnError) || error.object !== null) throw error;
    throw new KilnError(error.code, `${reference}: ${error.message}`, { cause: error.cause, object: reference, hint: error.hint });
  }
};

const parseDigest = (text: string): Digest => {
  if (!isDigest(text)) throw new KilnError("INTERNAL", `the rootfs builder answered ${text} for a digest`);
  return text;
};
