/** What an archive of images may be, each with its reason. */
export const ARCHIVE_LIMITS = {
  /** docker's old archives have four members a layer; this is room for sixteen thousand layers, in some MiB of memory. */
  members: 2 ** 16,
  /** Links of old archives lead straight to a layer; more in a row is a loop or a trap. */
  linksInARow: 16,
  /** manifest.json and index.json of hundreds of images with hundreds of layers. */
  listBytes: 16 * 2 ** 20,
  /** Images of one archive. */
  images: 4096,
  /** Indexes in indexes, as the daemon follows them. */
  indexDepth: 4,
  /** What is left of a file system that an archive is unpacked on: whoever else writes there needs some room too. */
  reserveBytes: 64 * 2 ** 20,
  /** The room is looked at again after so much was written. */
  roomCheckBytes: 32 * 2 ** 20,
  /** One read of a layer. */
  readBytes: 2 ** 20,
} as const;
