/** From when on the host is too small, each with its reason. */
export const HOST_LIMITS = {
  /** A kernel set and its package are 250 MiB, an image of a distribution with tools 1 GiB, and disks grow. */
  comfortableDiskBytes: 2 * 2 ** 30,
  /** Below it not even the kernel set fits. A home that has one boots VMs, but can write next to nothing. */
  leastDiskBytes: 256 * 2 ** 20,
  /** A VM has 512 MiB unless told otherwise, its VMM some 60 MiB, and a rootfs is built with some 150 MiB. */
  comfortableMemoryBytes: 768 * 2 ** 20,
  /** The smallest VM boots in 128 MiB; beside it are its VMM and the daemon. */
  leastMemoryBytes: 256 * 2 ** 20,
} as const;
