import { createHash } from "node:crypto";
import {
  type Descriptor,
  type ImageConfig,
  type ImageManifest,
  isConfigMediaType,
  layerEncoding,
  OciError,
  parseImageConfig,
  parseImageDocument,
  type Platform,
  platformText,
  selectManifest,
  selectPlatform,
} from "@kiln/formats/oci";
import { type Digest, digestHex, isDigest, KilnError, LIMITS } from "@kiln/protocol";
import type { ContentReader, ImageLayer, ResolvedImage } from "./ports.ts";

export interface ImportRequest {
  /** The name that the image gets. */
  readonly reference: string;
  /** The digest of an index or a manifest. */
  readonly root: Digest;
  readonly tag: string | null;
  readonly platform: Platform;
}

export interface MissingContent {
  readonly digest: Digest;
  /** Registries serve manifests and indexes apart from blobs. */
  readonly kind: "manifest" | "blob";
  /** Bytes; null for the root, of which nothing but the digest is known. */
  readonly size: number | null;
  /** Something lies under its name, and it is not what the digest says. */
  readonly isDamaged?: boolean;
}

/** Either something is still missing, or the image is complete. */
export type ImportPlan =
  | { readonly state: "incomplete"; readonly missing: readonly MissingContent[] }
  | { readonly state: "complete"; readonly image: ResolvedImage };

/** An index in an index in an index: more is nobody's image. */
const INDEX_DEPTH = 4;

interface Located {
  readonly digest: Digest;
  readonly manifest: ImageManifest;
  /** Which platform the way here named; null where no index did. */
  readonly platform: Platform | null;
}

class MissingError extends Error {
  readonly missing: readonly MissingContent[];

  constructor(missing: readonly MissingContent[]) {
    super("content is missing");
    this.missing = missing;
  }
}

/**
 * Walks from the root to the layers as far as the content goes, and says what is missing for the next step or what
 * the image is. Asked again after each delivery it ends in `complete`; it changes nothing.
 * Throws IMAGE_INVALID, IMAGE_PLATFORM_MISSING, IMAGE_NOT_FOUND (no such tag).
 */
export const planImport = async (request: ImportRequest, content: ContentReader, options: { signal: AbortSignal }): Promise<ImportPlan> => {
  const walk = new ImportWalk(request, content, options.signal);
  try {
    return { state: "complete", image: await walk.resolve() };
  } catch (error) {
    if (error instanceof MissingError) return { state: "incomplete", missing: error.missing };
    if (error instanceof OciError) throw imageError(request, error);
    throw error;
  }
};

const imageError = (request: ImportRequest, error: OciError): KilnError => {
  const code = error.code === "PLATFORM" ? "IMAGE_PLATFORM_MISSING" : error.code === "TAG" ? "IMAGE_NOT_FOUND" : "IMAGE_INVALID";
  const hint = code === "IMAGE_NOT_FOUND" ? { hint: "name one of the tags: oci:DIR:TAG" } : {};
  return new KilnError(code, `the image ${request.reference} cannot be used: ${error.message}`, {
    cause: error,
    object: request.reference,
    ...hint,
  });
};

class ImportWalk {
  readonly #request: ImportRequest;
  readonly #content: ContentReader;
  readonly #signal: AbortSignal;

  constructor(request: ImportRequest, content: ContentReader, signal: AbortSignal) {
    this.#request = request;
    this.#content = content;
    this.#signal = signal;
  }

  async resolve(): Promise<ResolvedImage> {
    const { digest, manifest, platform } = await this.#locate();
    if (!isConfigMediaType(manifest.config.mediaType)) {
      throw new OciError("UNSUPPORTED", `its config is ${JSON.stringify(manifest.config.mediaType)}: it is an artifact, not an image`);
    }
    if (manifest.layers.length > LIMITS.layers)
      throw new OciError("LIMIT", `it has ${manifest.layers.length} layers, more than ${LIMITS.layers}`);
    for (const layer of manifest.layers) layerEncoding(layer.mediaType);
    await this.#requireAll([manifest.config, ...manifest.layers], "blob");
    const configDigest = parsedDigest(manifest.config);
    const config = parseImageConfig(await this.#read({ digest: configDigest, kind: "blob", size: manifest.config.size }));
    const layers = pairLayers(manifest, config);
    return {
      reference: this.#request.reference,
      manifestDigest: digest,
      configDigest,
      platform: this.#requirePlatform(config, platform),
      config,
      layers,
    };
  }

  /** Follows indexes down to the manifest. A cycle cannot be longer than the depth that is allowed. */
  async #locate(): Promise<Located> {
    let digest = this.#request.root;
    let via: Descriptor | null = null;
    for (let depth = 0; depth <= INDEX_DEPTH; depth += 1) {
      await (via === null ? this.#requireRoot() : this.#requireAll([via], "manifest"));
      const document = parseImageDocument(
        await this.#read({ digest, kind: "manifest", size: via?.size ?? null }),
        via?.mediaType ?? null,
        depth === 0 ? "the root" : digest,
      );
      if (document.kind === "manifest") return { digest, manifest: document, platform: via?.platform ?? null };
      const { tag, platform } = this.#request;
      via = depth === 0 ? selectManifest(document, { tag, platform }) : selectPlatform(document.manifests, platform);
      digest = parsedDigest(via);
    }
    throw new OciError("LIMIT", `its indexes are nested deeper than ${INDEX_DEPTH}`);
  }

  async #requireRoot(): Promise<void> {
    const { root } = this.#request;
    if ((await this.#content.stat(root)) === null) throw new MissingError([{ digest: root, kind: "manifest", size: null }]);
  }

  /** All that are missing at once, each once, so that they can be sent together. */
  async #requireAll(descriptors: readonly Descriptor[], kind: MissingContent["kind"]): Promise<void> {
    const missing = new Map<Digest, MissingContent>();
    for (const descriptor of descriptors) {
      this.#signal.throwIfAborted();
      const digest = parsedDigest(descriptor);
      const there = await this.#content.stat(digest);
      if (there === null) missing.set(digest, { digest, kind, size: descriptor.size });
      else if (there.size !== descriptor.size) {
        throw new OciError("INVALID", `${digest} has ${there.size} bytes, its descriptor says ${descriptor.size}`);
      }
    }
    if (missing.size > 0) throw new MissingError([...missing.values()]);
  }

  /** A document that is not what its digest says counts as missing, so that whoever has it sends it again (I7). */
  async #read(wanted: MissingContent): Promise<Uint8Array> {
    const bytes = await this.#content.read(wanted.digest, { limitBytes: LIMITS.manifestBytes, signal: this.#signal });
    const found = createHash("sha256").update(bytes).digest("hex");
    if (found !== digestHex(wanted.digest)) throw new MissingError([{ ...wanted, isDamaged: true }]);
    return bytes;
  }

  /** What the config says wins over what an index promised; a config that says nothing is believed. */
  #requirePlatform(config: ImageConfig, promised: Platform | null): Platform {
    const wanted = this.#request.platform;
    const found = config.platform.os === "" ? (promised ?? wanted) : config.platform;
    if (found.os !== wanted.os || found.architecture !== wanted.architecture) {
      throw new OciError("PLATFORM", `it is for ${platformText(found)}, and ${platformText(wanted)} is wanted`);
    }
    return found;
  }
}

const parsedDigest = (descriptor: Descriptor): Digest => {
  if (!isDigest(descriptor.digest)) throw new OciError("INVALID", `${descriptor.digest} is not a digest`);
  return descriptor.digest;
};

const pairLayers = (manifest: ImageManifest, config: ImageConfig): readonly ImageLayer[] => {
  if (config.diffIds.length !== manifest.layers.length) {
    throw new OciError("INVALID", `its manifest has ${manifest.layers.length} layers, its config ${config.diffIds.length}`);
  }
  return manifest.layers.map((layer, index) => {
    const diffId = config.diffIds[index];
    if (diffId === undefined || !isDigest(diffId)) throw new OciError("INVALID", `layer ${index} has no diff id`);
    return { digest: parsedDigest(layer), size: layer.size, mediaType: layer.mediaType, format: layerEncoding(layer.mediaType), diffId };
  });
};
