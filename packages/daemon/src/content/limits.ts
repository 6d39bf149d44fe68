export const CONTENT_LIMITS = {
  /** A layer larger than this is refused before it fills the disk; the largest that are published have some tens of GiB. */
  blobBytes: 256 * 2 ** 30,
  /** Stays free on the home's file system, so that records can be written while blobs are refused. */
  reserveBytes: 16 * 2 ** 20,
  /** How much of a blob is written before the disk's room is looked at again: less than the reserve, which it may take. */
  betweenLooksBytes: 4 * 2 ** 20,
  /** What a pre-boot snapshot may need: a guest that has only booted has touched less. */
  prebootBytes: 256 * 2 ** 20,
  /** Saved memories that are held ready: each keeps what its guest had touched, some 85 MiB, in the host's memory. */
  loadedPreboots: 4,
  /** What is read at once of an artifact that is checked: hashing so much holds the event loop for less than a millisecond. */
  checkBytes: 256 * 2 ** 10,
  /** What is read at once from a blob. */
  readBytes: 2 ** 20,
} as const;
