import { parseReference } from "@kiln/formats/oci/reference";
import { OciError } from "@kiln/formats/oci/errors";
import type { ImageView } from "@kiln/protocol";

/**
 * docker's argument of `images`: a name with a tag or a digest means that, one without all its tags. What is no
 * registry's is compared as it stands; an image's digest, or twelve digits of it, mean the image.
 */
export const matchesImage = (text: string): ((image: ImageView) => boolean) => {
  const byDigest = /^(?:sha256:)?[0-9a-f]{12,64}$/.test(text) ? text.replace(/^sha256:/, "") : null;
  const names = namesOf(text);
  return ({ reference, digest }) =>
    names.some((name) => reference === name || (name.endsWith(":") && isTagOf(reference, name))) ||
    (byDigest !== null && digest.startsWith(`sha256:${byDigest}`));
};

/** A final colon stands for any tag. */
const namesOf = (text: string): readonly string[] => {
  const reference = parse(text);
  if (reference === null || reference.transport !== "docker") return [text];
  const { domain, repository, digest } = reference;
  const tail = text.slice(text.lastIndexOf("/") + 1);
  if (digest !== null)
    return [`${domain}/${repository}@${digest}`, ...(reference.tag === null ? [] : [`${domain}/${repository}:${reference.tag}@${digest}`])];
  return [`${domain}/${repository}:${tail.includes(":") ? (reference.tag ?? "") : ""}`];
};

const parse = (text: string): ReturnType<typeof parseReference> | null => {
  try {
    return parseReference(text);
  } catch (error) {
    if (error instanceof OciError) return null;
    throw error;
  }
};

const isTagOf = (reference: string, name: string): boolean => {
  const repository = name.slice(0, -1);
  return reference.startsWith(name) || reference.startsWith(`${repository}@`);
};
