export const CHECK_LIMITS = {
  /** Read at once while the file is hashed. */
  readBytes: 2 ** 20,
  /** A page of x86: kernels before 6.15 mount no larger blocks. */
  blockBytes: 4096,
  /** JavaScript heap of the thread: the reader holds a GiB of names at most. */
  heapMiB: 2048,
  /** Progress is reported at most once for so many bytes. */
  progressBytes: 2 ** 24,
} as const;
