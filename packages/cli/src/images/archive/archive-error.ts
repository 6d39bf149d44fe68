import { KilnError, type ErrorCode } from "@kiln/protocol/errors";
import { TarError } from "@kiln/formats/tar";
import { OciError } from "@kiln/formats/oci";

/** An archive that cannot be used, by the name that its caller gave it. */
export const archiveError = (name: string, what: string, options: { readonly cause?: unknown; readonly hint?: string } = {}): KilnError =>
  new KilnError("IMAGE_INVALID", `${name}: ${what}`, { object: name, ...options });

const CODES: Readonly<Partial<Record<OciError["code"], ErrorCode>>> = {
  PLATFORM: "IMAGE_PLATFORM_MISSING",
  TAG: "IMAGE_NOT_FOUND",
  REFERENCE: "REFERENCE_INVALID",
};

/** What a parser says of an archive, as an error that names the archive; anything else as it is. */
export const asArchiveError = (error: unknown, name: string): unknown => {
  if (error instanceof TarError) {
    const isTar = error.offset > 0 || (error.code !== "CHECKSUM" && error.code !== "NUMBER");
    return archiveError(name, isTar ? "the tar is damaged or cut off" : "it is no tar archive", { cause: error });
  }
  if (error instanceof OciError) {
    return new KilnError(CODES[error.code] ?? "IMAGE_INVALID", `${name}: ${error.message}`, { object: name });
  }
  return error;
};
