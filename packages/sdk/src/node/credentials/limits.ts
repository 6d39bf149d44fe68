/** What files and helpers of credentials may be, each with its reason. */
export const CREDENTIAL_LIMITS = {
  /** A file with hundreds of registries and cloud keys as passwords has some hundred KiB. */
  fileBytes: 2 ** 20,
  /** What a helper may answer: a token of 64 KiB and room for the rest. */
  helperBytes: 2 ** 17,
  /** A helper may open a browser or ask for a passphrase, but not wait for ever. */
  helperMs: 60_000,
} as const;
