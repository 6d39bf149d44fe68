import { OciError } from "./errors.ts";

/** Media types of the OCI image-spec (media-types.md) and of docker's distribution manifests, version 2 schema 2. */
export const MEDIA_TYPES = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  layerTar: "application/vnd.oci.image.layer.v1.tar",
  /** Kiln's own: a whole file system as one layer, whose diff id is the digest of the file. */
  layerExt4: "application/vnd.kiln.rootfs.v1.ext4",
  dockerManifestList: "application/vnd.docker.distribution.manifest.list.v2+json",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
  dockerConfig: "application/vnd.docker.container.image.v1+json",
} as const;

export type DocumentKind = "index" | "manifest";

const DOCUMENTS: Readonly<Record<string, DocumentKind>> = {
  [MEDIA_TYPES.index]: "index",
  [MEDIA_TYPES.dockerManifestList]: "index",
  [MEDIA_TYPES.manifest]: "manifest",
  [MEDIA_TYPES.dockerManifest]: "manifest",
};

/** null for a media type that is neither an index nor a manifest. */
export const documentKind = (mediaType: string): DocumentKind | null =>
  Object.hasOwn(DOCUMENTS, mediaType) ? (DOCUMENTS[mediaType] ?? null) : null;

export const isConfigMediaType = (mediaType: string): boolean => mediaType === MEDIA_TYPES.config || mediaType === MEDIA_TYPES.dockerConfig;

export type LayerEncoding = "tar" | "tar+gzip" | "tar+zstd" | "ext4";

const OCI_LAYER = /^application\/vnd\.oci\.image\.layer\.(?:nondistributable\.)?v1\.tar(?:\+(gzip|zstd))?$/;
const DOCKER_LAYER = /^application\/vnd\.docker\.image\.rootfs\.(?:foreign\.)?diff\.tar(?:\.(gzip|zstd))?$/;

/** How a layer of this media type is packed. Throws OciError UNSUPPORTED for everything else, encrypted layers included. */
export const layerEncoding = (mediaType: string): LayerEncoding => {
  if (mediaType === MEDIA_TYPES.layerExt4) return "ext4";
  const match = OCI_LAYER.exec(mediaType) ?? DOCKER_LAYER.exec(mediaType);
  if (match === null)
    throw new OciError("UNSUPPORTED", `a layer has the media type ${JSON.stringify(mediaType)}, which is none of a file system`);
  if (match[1] === "gzip") return "tar+gzip";
  return match[1] === "zstd" ? "tar+zstd" : "tar";
};

/** How a blob really is packed, from its first bytes: old tools wrote a gzip under the media type of a tar. */
export const sniffLayerEncoding = (head: Uint8Array): LayerEncoding => {
  if (head[0] === 0x1f && head[1] === 0x8b) return "tar+gzip";
  if (head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd) return "tar+zstd";
  // a skippable frame (RFC 8878, 3.1.2), as pzstd and zstd:chunked begin with
  if ((head[0] ?? 0) >> 4 === 5 && head[1] === 0x2a && head[2] === 0x4d && head[3] === 0x18) return "tar+zstd";
  return "tar";
};
