import { createHash } from "node:crypto";
import { MEDIA_TYPES, OCI_LIMITS, parseImageConfig } from "@kiln/formats/oci";
import type { LayoutBlob } from "@kiln/sdk";
import { archiveError, asArchiveError } from "./archive-error.ts";
import type { ArchiveTar, Located } from "./archive-tar.ts";
import { SNIFF_BYTES, sniffCompression } from "./compression.ts";
import type { ArchivedImage, ImageArchive } from "./image-archive.ts";
import { ARCHIVE_LIMITS } from "./limits.ts";
import { nameOf } from "./names.ts";

/** One entry of docker's manifest.json (moby, image/tarexport). */
interface DockerImage {
  readonly config: string;
  readonly names: readonly string[];
  readonly layers: readonly string[];
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

export const hasDockerContents = (tar: ArchiveTar): boolean => tar.has("manifest.json");

/**
 * The images of `docker save`. The archive has no manifests: they are made from manifest.json, always the same bytes for
 * the same images. Its layers are plain tars, whose digests are the config's diff ids; only packed ones are hashed here.
 * Throws IMAGE_INVALID.
 */
export const openDockerContents = async (tar: ArchiveTar, options: { readonly signal: AbortSignal }): Promise<ImageArchive> => {
  try {
    const contents = new DockerContents(tar, options.signal);
    const images: ArchivedImage[] = [];
    for (const image of await readList(tar)) images.push(await contents.add(image));
    return { form: "docker", images, index: null, readBlob: (digest) => contents.readBlob(digest) };
  } catch (error) {
    throw asArchiveError(error, tar.name);
  }
};

class DockerContents {
  readonly #tar: ArchiveTar;
  readonly #signal: AbortSignal;
  readonly #blobs = new Map<string, LayoutBlob>();
  /** Digests of packed layers by where they lie: images share them. */
  readonly #hashed = new Map<number, string>();

  constructor(tar: ArchiveTar, signal: AbortSignal) {
    this.#tar = tar;
    this.#signal = signal;
  }

  async add({ config, names, layers }: DockerImage): Promise<ArchivedImage> {
    const bytes = await this.#tar.readSmall(config, OCI_LIMITS.documentBytes);
    if (bytes === null) throw archiveError(this.#tar.name, `it lacks its config ${JSON.stringify(config.slice(0, 200))}`);
    const { diffIds } = parseImageConfig(bytes);
    if (diffIds.length !== layers.length) {
      throw archiveError(this.#tar.name, `an image has ${layers.length} layers, its config ${diffIds.length}`);
    }
    const described: Descriptor[] = [];
    for (const [index, layer] of layers.entries()) described.push(await this.#layer(layer, diffIds[index] ?? ""));
    const manifest = {
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.manifest,
      config: this.#keep(MEDIA_TYPES.config, bytes),
      layers: described,
    };
    const root = Buffer.from(JSON.stringify(manifest));
    return { names, label: names[0] ?? manifest.config.digest, readRoot: async () => root };
  }

  async readBlob(digest: string): Promise<LayoutBlob> {
    const blob = this.#blobs.get(digest);
    if (blob === undefined) throw archiveError(this.#tar.name, `it lacks the blob ${digest.slice(0, 80)}`);
    return blob;
  }

  #keep(mediaType: string, bytes: Uint8Array): Descriptor {
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    this.#blobs.set(digest, {
      sizeBytes: bytes.length,
      open: async function* whole() {
        yield bytes;
      },
    });
    return { mediaType, digest, size: bytes.length };
  }

  async #layer(path: string, diffId: string): Promise<Descriptor> {
    const found = this.#tar.find(path);
    if (found === null) throw archiveError(this.#tar.name, `it lacks its layer ${JSON.stringify(path.slice(0, 200))}`);
    const compression = sniffCompression(await this.#tar.readHead(found, SNIFF_BYTES));
    if (compression === "xz" || compression === "bzip2") {
      throw archiveError(this.#tar.name, `its layer ${JSON.stringify(path.slice(0, 200))} is packed with ${compression}`);
    }
    const digest = compression === "none" ? diffId : await this.#hash(found);
    this.#blobs.set(digest, this.#tar.toBlob(found));
    const mediaType = compression === "none" ? MEDIA_TYPES.layerTar : `${MEDIA_TYPES.layerTar}+${compression}`;
    return { mediaType, digest, size: found.sizeBytes };
  }

  async #hash(found: Located): Promise<string> {
    const digest = this.#hashed.get(found.offset) ?? (await this.#tar.digestOf(found, { signal: this.#signal }));
    this.#hashed.set(found.offset, digest);
    return digest;
  }
}

const readList = async (tar: ArchiveTar): Promise<DockerImage[]> => {
  const bytes = await tar.readSmall("manifest.json", ARCHIVE_LIMITS.listBytes);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes ?? Buffer.alloc(0)));
  } catch (cause) {
    throw archiveError(tar.name, "its manifest.json is not JSON", { cause });
  }
  if (!Array.isArray(value)) throw archiveError(tar.name, "its manifest.json is not a list");
  if (value.length === 0) throw archiveError(tar.name, "its manifest.json names no image");
  if (value.length > ARCHIVE_LIMITS.images) throw archiveError(tar.name, `it has more than ${ARCHIVE_LIMITS.images} images`);
  return value.map((one: unknown) => parseImage(tar.name, one));
};

const parseImage = (archive: string, value: unknown): DockerImage => {
  const fields: Readonly<Record<string, unknown>> = typeof value === "object" && value !== null ? { ...value } : {};
  const texts = (name: string): string[] => {
    const list: unknown = fields[name] ?? [];
    const isTexts = Array.isArray(list) && list.length <= OCI_LIMITS.layers && list.every((one) => typeof one === "string");
    if (!isTexts) throw archiveError(archive, `${name} in its manifest.json is not a list of at most ${OCI_LIMITS.layers} names`);
    return list;
  };
  const { Config: config } = fields;
  if (typeof config !== "string") throw archiveError(archive, "an image in its manifest.json has no Config");
  const names = texts("RepoTags").map((tag) => {
    const name = nameOf(tag);
    if (name === null) throw archiveError(archive, `${JSON.stringify(tag.slice(0, 200))} in its manifest.json is no name of an image`);
    return name;
  });
  return { config, names, layers: texts("Layers") };
};
