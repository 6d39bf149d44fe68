import { parseDescriptor, type Descriptor } from "./descriptor.ts";
import { OciError } from "./errors.ts";
import { asArray, asName, optional, parseJsonDocument, type JsonObject } from "./json.ts";
import { OCI_LIMITS } from "./limits.ts";
import { documentKind, type DocumentKind } from "./media-types.ts";
import { selectPlatform, type Platform } from "./platform.ts";

/** An OCI index, a docker manifest list, or the index.json of a layout. */
export interface ImageIndex {
  readonly kind: "index";
  readonly manifests: readonly Descriptor[];
}

export interface ImageManifest {
  readonly kind: "manifest";
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

const parseSchemaVersion = (document: JsonObject, what: string): void => {
  const version = document["schemaVersion"];
  if (version === 1) throw new OciError("UNSUPPORTED", `${what} is of docker's schema 1, which nobody writes any more`);
  if (version !== 2) throw new OciError("INVALID", `${what}.schemaVersion is not 2`);
};

/** What a document is, by its own fields; one that is both is refused, since readers would differ (CVE-2021-41190). */
const kindOf = (document: JsonObject, what: string): DocumentKind => {
  const isIndex = document["manifests"] !== undefined;
  const isManifest = document["layers"] !== undefined || document["config"] !== undefined;
  if (isIndex === isManifest)
    throw new OciError("INVALID", `${what} is ${isIndex ? "both an index and a manifest" : "neither an index nor a manifest"}`);
  return isIndex ? "index" : "manifest";
};

/**
 * Parses an index or a manifest. `mediaType` is what the descriptor that led here says, null where none did; it, the
 * document's own `mediaType` and its fields must agree. Throws OciError INVALID, LIMIT, UNSUPPORTED.
 */
export const parseImageDocument = (bytes: Uint8Array, mediaType: string | null, what: string): ImageIndex | ImageManifest => {
  const document = parseJsonDocument(bytes, what);
  parseSchemaVersion(document, what);
  const kind = kindOf(document, what);
  const own = optional(document["mediaType"], (one) => asName(one, `${what}.mediaType`));
  for (const named of [mediaType, own]) {
    if (named !== null && documentKind(named) !== kind)
      throw new OciError("INVALID", `${what} is called ${JSON.stringify(named)}, but has the fields of an ${kind}`);
  }
  if (own !== null && mediaType !== null && own !== mediaType)
    throw new OciError("INVALID", `${what} says it is ${own}, its descriptor says ${mediaType}`);
  if (kind === "index") {
    const manifests = asArray(document["manifests"], `${what}.manifests`, OCI_LIMITS.indexEntries);
    return { kind, manifests: manifests.map((one, index) => parseDescriptor(one, `${what}.manifests[${index}]`)) };
  }
  const layers = asArray(document["layers"], `${what}.layers`, OCI_LIMITS.layers);
  return {
    kind,
    config: parseDescriptor(document["config"], `${what}.config`),
    layers: layers.map((one, index) => parseDescriptor(one, `${what}.layers[${index}]`)),
  };
};

/** The `oci-layout` file of a layout (image-layout.md). Throws OciError INVALID, UNSUPPORTED. */
export const parseLayoutMarker = (bytes: Uint8Array): void => {
  const version = asName(parseJsonDocument(bytes, "oci-layout")["imageLayoutVersion"], "oci-layout.imageLayoutVersion");
  if (!/^1\.\d+\.\d+$/.test(version)) throw new OciError("UNSUPPORTED", `the layout has version ${version}; 1.x is supported`);
};

const REF_NAME = "org.opencontainers.image.ref.name";

/**
 * The entry of a layout's index under a tag; without a tag the one for the platform, which must be clear.
 * Throws OciError TAG, PLATFORM.
 */
export const selectManifest = (index: ImageIndex, wanted: { readonly tag: string | null; readonly platform: Platform }): Descriptor => {
  const { tag, platform } = wanted;
  const usable = index.manifests.filter((one) => documentKind(one.mediaType) !== null);
  const tags = [...new Set(usable.flatMap((one) => one.annotations[REF_NAME] ?? []))];
  if (tag !== null) {
    const tagged = usable.filter((one) => one.annotations[REF_NAME] === tag);
    const [only] = tagged;
    if (only === undefined) throw new OciError("TAG", `there is no tag ${JSON.stringify(tag)}; ${tagsText(tags)}`);
    // what a tag names alone is meant, whatever platform it says; its config is checked by whoever reads it
    return tagged.length === 1 ? only : selectPlatform(tagged, platform);
  }
  const [only] = usable;
  if (usable.length === 1 && only !== undefined) return only;
  if (tags.length > 1) throw new OciError("TAG", `there are several images and no tag says which; ${tagsText(tags)}`);
  return selectPlatform(usable, platform);
};

const tagsText = (tags: readonly string[]): string =>
  tags.length === 0 ? "there are no tags" : `there are the tags ${tags.slice(0, 20).join(", ")}`;
