import { type ImageReference, OciError, parseReference } from "@kiln/formats/oci";
import { KilnError } from "@kiln/protocol";

/** A reference to an image that Kiln can get: `oci:` by import, `deb:` by itself. */
export type SupportedReference = Extract<ImageReference, { transport: "oci" | "deb" }>;

/** Throws REFERENCE_INVALID for text that is no reference, and for transports that are not supported yet. */
export const parseSupportedReference = (text: string): SupportedReference => {
  const reference = parseOrThrow(text);
  if (reference.transport === "oci" || reference.transport === "deb") return reference;
  const what =
    reference.transport === "docker"
      ? `names an image in a registry, and registries are`
      : `is of the transport ${reference.transport}, which is`;
  throw new KilnError("REFERENCE_INVALID", `${JSON.stringify(text)} ${what} not supported yet`, {
    object: text,
    hint: "copy the image to a layout first, for example with `skopeo copy docker://NAME oci:DIR:TAG`, and use oci:DIR:TAG",
  });
};

const parseOrThrow = (text: string): ImageReference => {
  try {
    return parseReference(text);
  } catch (error) {
    if (error instanceof OciError) throw new KilnError("REFERENCE_INVALID", error.message, { cause: error, object: text.slice(0, 200) });
    throw error;
  }
};
