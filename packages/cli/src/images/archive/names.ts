import { OciError } from "@kiln/formats/oci/errors";
import { dockerName, parseReference } from "@kiln/formats/oci/reference";

/** The written-out name of an image of a registry; null for text that is none, such as a mere tag of a layout. */
export const nameOf = (text: string): string | null => {
  try {
    const reference = parseReference(text);
    return reference.transport === "docker" && reference.digest === null ? dockerName(reference) : null;
  } catch (error) {
    if (error instanceof OciError) return null;
    throw error;
  }
};

/** The same, for text that need not be meant as a name: a word alone is a tag. */
export const fullNameOf = (text: string): string | null => (/[/:]/.test(text) ? nameOf(text) : null);
