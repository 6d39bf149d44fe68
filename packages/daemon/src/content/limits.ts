export const CONTENT_LIMITS = {
  /** A layer larger than this is refused before it fills the disk; the largest that are published have some tens of GiB. */
  blobBytes: 256 * 2 ** 30,
  /** What is read at once from a blob. */
  readBytes: 2 ** 20,
} as const;
