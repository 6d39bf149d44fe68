import { CONTENT_LIMITS } from "../limits.ts";

export interface RootfsLimits {
  /** Largest image: 512 GiB is what the writer keeps room for. */
  readonly maxImageBytes: number;
  /** Files, links and directories of all layers together: each costs some 250 bytes of memory until the end of the build. */
  readonly maxEntries: number;
  /** Memory that the entries may take, by estimate: it is generous, most take half. */
  readonly maxMetadataBytes: number;
  /** What all layers together may unpack to, so that a small archive of zeros does not run for hours. */
  readonly maxUnpackedBytes: number;
  /** How many times its size one layer may unpack to. Layers of real images stay below 20; gzip can reach 1,030, and zstd far more. */
  readonly maxUnpackRatio: number;
  /** What any layer may unpack to, however small it is: preallocated and empty files compress well, and so much is read in seconds. */
  readonly freeUnpackBytes: number;
  /** What stays free of the disk that is written to. */
  readonly reserveBytes: number;
}

export const ROOTFS_LIMITS: RootfsLimits = {
  maxImageBytes: 256 * 2 ** 30,
  maxEntries: 4_000_000,
  maxMetadataBytes: 2 * 2 ** 30,
  maxUnpackedBytes: 512 * 2 ** 30,
  maxUnpackRatio: 100,
  freeUnpackBytes: 4 * 2 ** 30,
  reserveBytes: CONTENT_LIMITS.reserveBytes,
};

export const WRITE_LIMITS = {
  /** How much is written before the disk's room is looked at again: a look takes microseconds, and others fill the disk too. */
  betweenLooksBytes: 64 << 20,
  /** Buffers of 1 MiB that another thread writes while the next is filled: a page of the cache costs what a block of content costs. */
  buffersBehind: 3,
} as const;

export const READ_LIMITS = {
  /** Compressed bytes that are read at once: few calls, little memory. */
  fileBytes: 1 << 18,
  /** Uncompressed bytes that are handed on at once. */
  chunkBytes: 1 << 18,
  /** How far unpacking may run ahead of writing. */
  aheadBytes: 1 << 19,
  /** Largest zstd window (2^27 is 128 MiB), the limit of the zstd tool itself. */
  zstdWindowLog: 27,
  /** Progress is reported at most once for so many compressed bytes. */
  progressBytes: 1 << 20,
} as const;

/**
 * JavaScript heap of the thread that builds: what the most entries need, with room. The engine lets garbage grow the further the more it is
 * allowed; and what dies young is collected in less room than it would take by itself, as what a build keeps is in few objects.
 */
export const WORKER_HEAP = { maxOldGenerationSizeMb: 1536, maxYoungGenerationSizeMb: 6 } as const;
