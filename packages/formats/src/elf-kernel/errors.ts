export type KernelFormatErrorCode =
  /** Not the format that was expected, or cut off. */
  | "INVALID"
  /** Larger than the limits allow. */
  | "LIMIT"
  /** Well formed, but packed or built in a way that is not supported. */
  | "UNSUPPORTED";

/** A kernel or module that cannot be used. */
export class KernelFormatError extends Error {
  override readonly name = "KernelFormatError";
  readonly code: KernelFormatErrorCode;

  constructor(code: KernelFormatErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
