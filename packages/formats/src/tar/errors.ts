export type TarErrorCode =
  /** A header's checksum is wrong: damaged, or not a tar. */
  | "CHECKSUM"
  /** A field that must be a number is none, or is out of range. */
  | "NUMBER"
  /** The stream ends inside an entry. */
  | "TRUNCATED"
  /** A PAX record is malformed. */
  | "PAX"
  /** A sparse map is malformed or contradicts the entry's size. */
  | "SPARSE"
  /** An entry type that has no meaning here (multi-volume parts, unknown letters). */
  | "TYPE"
  /** A name, PAX header or sparse map is longer than the limits allow. */
  | "LIMIT"
  /** An extended header is not followed by the entry that it describes. */
  | "DANGLING";

/** A tar that cannot be read. `offset` is where in the uncompressed stream, in bytes. */
export class TarError extends Error {
  override readonly name = "TarError";
  readonly code: TarErrorCode;
  readonly offset: number;

  constructor(code: TarErrorCode, message: string, offset: number) {
    super(`${message} (at byte ${offset} of the tar)`);
    this.code = code;
    this.offset = offset;
  }
}
