import { dockerName, type ImageReference, OciError, parseReference } from "@kiln/formats/oci";
import { KilnError } from "@kiln/protocol";
import type { ImageRecord } from "./records.port.ts";

/** Throws REFERENCE_INVALID for text that is no reference. */
export const parseImageReference = (text: string): ImageReference => {
  try {
    return parseReference(text);
  } catch (error) {
    if (error instanceof OciError) {
      const hint = /^[./~]/.test(text) ? { hint: `for files say what they are: oci:${text} or docker-archive:${text}` } : {};
      throw new KilnError("REFERENCE_INVALID", error.message, { cause: error, object: text.slice(0, 200), ...hint });
    }
    throw error;
  }
};

/** The one name under which an image is recorded: docker's short names are written out. Throws REFERENCE_INVALID. */
export const canonicalReference = (text: string): string => {
  const reference = parseImageReference(text);
  return reference.transport === "docker" ? dockerName(reference) : text;
};

/** A digest, or the start of one as lists print it. */
const DIGEST_PREFIX = /^(?:sha256:)?([0-9a-f]{12,64})$/;

/** The image that a person means: by its name, else by the beginning of its digest. null where there is none. */
export const findImage = (
  text: string,
  images: { getImage(reference: string): ImageRecord | null; listImages(): readonly ImageRecord[] },
): ImageRecord | null => {
  const [, hex] = DIGEST_PREFIX.exec(text) ?? [];
  const named = images.getImage(text) ?? images.getImage(hex === undefined ? canonicalReference(text) : text);
  if (named !== null || hex === undefined) return named;
  const found = images.listImages().filter((record) => record.image.manifestDigest.startsWith(`sha256:${hex}`));
  if (new Set(found.map((record) => record.image.manifestDigest)).size > 1) {
    throw new KilnError("REFERENCE_INVALID", `several images have digests that begin with ${text}`, { object: text });
  }
  return found[0] ?? images.getImage(canonicalReference(text));
};
