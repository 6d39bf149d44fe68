export const PACK_LIMITS = {
  /** Packed chunks that wait to be written: the thread goes on meanwhile, and memory stays small. */
  chunksAhead: 8,
  /** Of one packed chunk. */
  chunkBytes: 256 * 2 ** 10,
  /** Fast enough to keep up with the disk, and within a tenth of what the slowest level saves. */
  gzipLevel: 4,
  /** Names, inodes and extents of a disk with a million files fit. */
  heapMiB: 1024,
} as const;
