/** OCI and docker image documents and references, parsed from bytes and text that nobody vouches for. Pure. */
export { parseImageConfig, type ImageConfig } from "./config.ts";
export { parseDescriptor, parseDigest, type Descriptor } from "./descriptor.ts";
export { OciError, type OciErrorCode } from "./errors.ts";
export { OCI_LIMITS } from "./limits.ts";
export { parseImageDocument, parseLayoutMarker, selectManifest, type ImageIndex, type ImageManifest } from "./manifest.ts";
export {
  documentKind,
  isConfigMediaType,
  layerEncoding,
  MEDIA_TYPES,
  sniffLayerEncoding,
  type DocumentKind,
  type LayerEncoding,
} from "./media-types.ts";
export { platformText, selectPlatform, type Platform } from "./platform.ts";
export { dockerName, familiarName, parseReference, type DebPackage, type DockerReference, type ImageReference } from "./reference.ts";
