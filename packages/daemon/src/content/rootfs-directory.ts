import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { join } from "node:path";
import { layerEncoding } from "@kiln/formats/oci";
import { type Digest, isDigest, KilnError, type Progress } from "@kiln/protocol";
import { fileFingerprint, publishFile, removeFileNow } from "@kiln/std/node";
import type { ResolvedImage } from "../images/ports.ts";
import type { Fingerprint, RootfsRecord } from "../images/records.port.ts";
import { requireRoom } from "./room.ts";
import { type BuiltRootfs, buildRootfs } from "./rootfs/index.ts";

export interface BuildWatch {
  readonly signal: AbortSignal;
  readonly onPhase: (name: string) => void;
  readonly onProgress: (progress: Progress) => void;
}

/** `<home>/rootfs/<key>.ext4`, mode 0444, each a pure function of its key. */
export class RootfsDirectory {
  readonly #directory: string;
  readonly #stagingDir: string;
  readonly #blobPath: (digest: Digest) => string;

  constructor(options: { directory: string; stagingDir: string; blobPath: (digest: Digest) => string }) {
    this.#directory = options.directory;
    this.#stagingDir = options.stagingDir;
    this.#blobPath = options.blobPath;
  }

  path(key: string): string {
    return join(this.#directory, `${key}.ext4`);
  }

  async build(image: ResolvedImage, key: string, watch: BuildWatch): Promise<{ digest: Digest; fingerprint: Fingerprint }> {
    const { signal, onProgress } = watch;
    watch.onPhase("build rootfs");
    const layers = image.layers.map((layer) => ({
      path: this.#blobPath(layer.digest),
      mediaType: layerEncoding(layer.mediaType),
      diffId: layer.diffId,
    }));
    // what layers unpack to is known at the end only; it is no less than they are packed
    const least = image.layers.reduce((sum, layer) => sum + layer.size, 0);
    await requireRoom(this.#stagingDir, { bytes: least, what: `the rootfs of ${image.reference}`, object: image.reference });
    const built = Promise.withResolvers<BuiltRootfs>();
    const published = await publishFile({
      target: this.path(key),
      stagingDir: this.#stagingDir,
      mode: 0o444,
      ifExists: "replace",
      signal,
      write: async (_file, path) =>
        built.resolve(await named(image.reference, buildRootfs({ layers, target: path, key }, { signal, onProgress }))),
    });
    return { digest: parseDigest((await built.promise).digest), fingerprint: toFingerprint(published) };
  }

  async isWhole(record: RootfsRecord, options: { signal: AbortSignal }): Promise<boolean> {
    const path = this.path(record.key);
    const now = await fileFingerprint(path);
    if (now === null || now.size !== record.fingerprint.size) return false;
    const seen = toFingerprint(now);
    const isSame = (["ino", "mtimeNs", "ctimeNs"] as const).every((field) => seen[field] === record.fingerprint[field]);
    return isSame || (await hashFile(path, options.signal)) === record.digest;
  }

  removeNow(key: string): number {
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

const toFingerprint = (stat: { size: number; ino: bigint; mtimeNs: bigint; ctimeNs: bigint }): Fingerprint => ({
  size: stat.size,
  ino: String(stat.ino),
  mtimeNs: String(stat.mtimeNs),
  ctimeNs: String(stat.ctimeNs),
});

const hashFile = async (path: string, signal: AbortSignal): Promise<string> => {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { signal, highWaterMark: 1 << 20 })) hash.update(chunk as Uint8Array);
  return `sha256:${hash.digest("hex")}`;
};
