export type OciErrorCode =
  /** Not JSON, or not the document that was expected. */
  | "INVALID"
  /** Larger, deeper or longer than the limits allow. */
  | "LIMIT"
  /** Well formed, but of a kind that is not supported: schema 1, another digest algorithm, encrypted layers. */
  | "UNSUPPORTED"
  /** The index has nothing for the platform. */
  | "PLATFORM"
  /** The index has nothing under the tag, or more than one thing and no tag was given. */
  | "TAG"
  /** Text that is not an image reference. */
  | "REFERENCE";

/** A document or reference that cannot be used. The message names the field. */
export class OciError extends Error {
  override readonly name = "OciError";
  readonly code: OciErrorCode;

  constructor(code: OciErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
