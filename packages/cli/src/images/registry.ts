import { homedir } from "node:os";
import type { RegistryCredentials } from "@kiln/protocol";
import { KilnError } from "@kiln/protocol/errors";
import { OciError } from "@kiln/formats/oci/errors";
import { dockerName, parseReference, type ImageReference } from "@kiln/formats/oci/reference";
import type { Kiln } from "@kiln/sdk";
import type { CommandContext } from "../context.ts";

/** Throws REFERENCE_INVALID. */
const parse = (text: string): ImageReference => {
  try {
    return parseReference(text);
  } catch (error) {
    if (error instanceof OciError) throw new KilnError("REFERENCE_INVALID", error.message, { cause: error, object: text.slice(0, 200) });
    throw error;
  }
};

/** The one name that an image is recorded under. Throws REFERENCE_INVALID. */
export const recordedName = (text: string): string => {
  const reference = parse(text);
  return reference.transport === "docker" ? dockerName(reference) : text;
};

/** The written-out form of a name that a person gives an image. Throws REFERENCE_INVALID. */
export const parseNewName = (text: string): string => {
  const reference = parse(text);
  if (reference.transport !== "docker" || reference.digest !== null)
    throw new KilnError("REFERENCE_INVALID", `${text} is not NAME[:TAG]`, { object: text });
  return dockerName(reference);
};

/**
 * The caller's credentials for the registry that a reference names; empty for what comes from elsewhere. `isThere`
 * says whether the image needs no fetching: then no helper is run. Throws REGISTRY_CREDENTIALS_INVALID.
 */
export const credentialsFor = async (
  context: CommandContext,
  reference: string,
  isThere: () => Promise<boolean>,
): Promise<RegistryCredentials> => {
  const image = parse(reference);
  if (image.transport !== "docker") return {};
  const { findRegistryCredentials } = await import("@kiln/sdk/node");
  const { env, uid } = context.host;
  return findRegistryCredentials({
    image,
    from: { env, uid, userHome: env["HOME"] ?? homedir() },
    isWorthHelper: async () => !(await isThere()),
    signal: context.signal,
  });
};

/** Whether the daemon has the image, for the platform if one is asked for. */
export const hasImage = async (
  kiln: Kiln,
  wanted: { readonly reference: string; readonly platform: string | null },
  options: { readonly signal: AbortSignal },
): Promise<boolean> => {
  try {
    const image = await kiln.images.inspect(wanted.reference, options);
    return wanted.platform === null || image.platform === wanted.platform;
  } catch (error) {
    if (error instanceof KilnError && error.code === "IMAGE_NOT_FOUND") return false;
    throw error;
  }
};
