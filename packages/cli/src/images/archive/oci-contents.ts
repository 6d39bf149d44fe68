import { createHash } from "node:crypto";
import {
  documentKind,
  MEDIA_TYPES,
  OCI_LIMITS,
  OciError,
  parseImageDocument,
  parseLayoutMarker,
  type Descriptor,
  type ImageIndex,
} from "@kiln/formats/oci";
import { KilnError } from "@kiln/protocol/errors";
import { digestHex, isDigest } from "@kiln/protocol/ids";
import { archiveError, asArchiveError } from "./archive-error.ts";
import type { ArchiveTar } from "./archive-tar.ts";
import type { ArchivedImage, ImageArchive } from "./image-archive.ts";
import { ARCHIVE_LIMITS } from "./limits.ts";
import { fullNameOf, nameOf } from "./names.ts";

const NAME_ANNOTATION = "io.containerd.image.name";
const REF_ANNOTATION = "org.opencontainers.image.ref.name";
/** BuildKit's attestations lie beside the images that they are about. */
const REFERENCE_TYPE = "vnd.docker.reference.type";

const blobPath = (digest: string): string => (isDigest(digest) ? `blobs/sha256/${digestHex(digest)}` : "");

export const hasOciContents = (tar: ArchiveTar): boolean => tar.has("index.json") && tar.has("oci-layout");

/** The images of an OCI layout that lies in a tar (image-spec, image-layout.md). Throws IMAGE_INVALID. */
export const openOciContents = async (tar: ArchiveTar): Promise<ImageArchive> => {
  try {
    parseLayoutMarker((await tar.readSmall("oci-layout", OCI_LIMITS.documentBytes)) ?? Buffer.alloc(0));
    const bytes = await tar.readSmall("index.json", OCI_LIMITS.documentBytes);
    if (bytes === null) throw archiveError(tar.name, "it has no index.json");
    const index = parseImageDocument(bytes, null, "index.json");
    if (index.kind !== "index") throw archiveError(tar.name, "its index.json is no index");
    const descriptors = imagesOf(index);
    const tags = new Set(descriptors.flatMap((one) => one.annotations[REF_ANNOTATION] ?? []));
    const images = [...byName(descriptors)].map(([name, group]) => toImage(tar, name, group));
    return { form: "oci", images, index: { bytes, tags }, readBlob: (digest) => readBlob(tar, digest) };
  } catch (error) {
    throw asArchiveError(error, tar.name);
  }
};

const imagesOf = (index: ImageIndex): Descriptor[] =>
  index.manifests.filter((one) => documentKind(one.mediaType) !== null && one.annotations[REFERENCE_TYPE] === undefined);

const nameOfDescriptor = ({ annotations }: Descriptor): string | null =>
  nameOf(annotations[NAME_ANNOTATION] ?? "") ?? fullNameOf(annotations[REF_ANNOTATION] ?? "");

/** Descriptors of one name are one image for several platforms; what has no name is an image by itself. */
const byName = (descriptors: readonly Descriptor[]): ReadonlyMap<string, readonly Descriptor[]> =>
  Map.groupBy(descriptors, (one) => nameOfDescriptor(one) ?? `${one.annotations[REF_ANNOTATION] ?? ""}\n${one.digest}`);

const toImage = (tar: ArchiveTar, name: string, group: readonly Descriptor[]): ArchivedImage => {
  const [first] = group;
  const isNamed = !name.includes("\n");
  const label = isNamed ? name : first?.annotations[REF_ANNOTATION] || (first?.digest ?? "");
  const readRoot = async () => (group.length === 1 && first !== undefined ? readDocument(tar, first) : joined(group));
  return { names: isNamed ? [name] : [], label, readRoot };
};

const joined = (descriptors: readonly Descriptor[]): Uint8Array => {
  const manifests = descriptors.map(({ mediaType, digest, size, platform }) => ({
    ...{ mediaType, digest, size },
    ...(platform === null ? {} : { platform: platformFields(platform) }),
  }));
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.index, manifests }));
};

const platformFields = ({ os, architecture, variant }: NonNullable<Descriptor["platform"]>) => ({
  ...{ os, architecture },
  ...(variant === "" ? {} : { variant }),
});

/** A manifest or an index, which is what its descriptor says. Throws IMAGE_INVALID. */
const readDocument = async (tar: ArchiveTar, descriptor: Descriptor): Promise<Buffer> => {
  const { digest } = descriptor;
  const bytes = await tar.readSmall(blobPath(digest), OCI_LIMITS.documentBytes);
  if (bytes === null) throw archiveError(tar.name, `it lacks its blob ${digest}`);
  if (`sha256:${createHash("sha256").update(bytes).digest("hex")}` !== digest) {
    throw archiveError(tar.name, `its blob ${digest} is damaged: its bytes have another digest`);
  }
  return bytes;
};

const readBlob = async (tar: ArchiveTar, digest: string): Promise<ReturnType<ArchiveTar["toBlob"]>> => {
  const found = tar.find(blobPath(digest));
  if (found === null) throw archiveError(tar.name, `it lacks its blob ${digest.slice(0, 80)}`);
  return tar.toBlob(found);
};

/**
 * Whether every image of the archive's index is there as a whole, in one platform at least: docker may save an index
 * of several platforms with the blobs of one.
 */
export const isOciComplete = async (tar: ArchiveTar, archive: ImageArchive): Promise<boolean> => {
  const seen = new Map<string, boolean>();
  const isThere = ({ digest, size }: Descriptor): boolean => tar.find(blobPath(digest))?.sizeBytes === size;
  const isWhole = async (bytes: Uint8Array, depth: number): Promise<boolean> => {
    const document = parseImageDocument(bytes, null, "a document");
    if (document.kind === "manifest") return [document.config, ...document.layers].every(isThere);
    if (depth >= ARCHIVE_LIMITS.indexDepth) return false;
    const whole = await Promise.all(imagesOf(document).map((one) => isReachable(one, depth + 1)));
    return whole.includes(true);
  };
  const isReachable = async (descriptor: Descriptor, depth: number): Promise<boolean> => {
    const known = seen.get(descriptor.digest);
    if (known !== undefined || !isThere(descriptor)) return known ?? false;
    seen.set(descriptor.digest, false);
    const whole = await isWhole(await readDocument(tar, descriptor), depth);
    seen.set(descriptor.digest, whole);
    return whole;
  };
  try {
    const whole = await Promise.all(archive.images.map(async (image) => isWhole(await image.readRoot(), 0)));
    return whole.length > 0 && !whole.includes(false);
  } catch (error) {
    if (error instanceof OciError || (error instanceof KilnError && error.code === "IMAGE_INVALID")) return false;
    throw error;
  }
};
