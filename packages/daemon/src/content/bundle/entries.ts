/** What a bundle is made of, in this order. */
export const MANIFEST_ENTRY = "manifest.json";
export const ROOTFS_ENTRY = "rootfs.ext4";
export const SUMS_ENTRY = "sha256";

/** The last entry, as sha256sum(1) reads it. */
export const sumsText = (sums: { readonly manifest: string; readonly rootfs: string }): string =>
  `${sums.manifest}  ${MANIFEST_ENTRY}\n${sums.rootfs}  ${ROOTFS_ENTRY}\n`;

export const BUNDLE_LIMITS = {
  /** An execution with all its lists full has less. */
  manifestBytes: 2 ** 20,
  sumsBytes: 4096,
  /** A file system larger than what a rootfs may have is no image. */
  rootfsBytes: 256 * 2 ** 30,
  /** Read and hashed at once, which holds the event loop for less than a millisecond: a multiple of a hole. */
  readBytes: 2 ** 18,
  /** Shorter stretches of zeros are packed, which costs less than naming them. */
  holeBytes: 2 ** 16,
  /** Stretches of data: a tar's map has 2^18 at most, and one that ends in a hole names that too. */
  segments: 2 ** 18 - 1,
  /** Largest zstd window (2^27 is 128 MiB), the limit of the zstd tool itself. */
  zstdWindowLog: 27,
  /** zstd's own default: a rootfs is packed as fast as a disk writes. */
  zstdLevel: 3,
  /** tar(1) fills its last record of 10 KiB with zeros. */
  endBytes: 2 ** 16,
} as const;
