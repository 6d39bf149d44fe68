/** Longest extended header (PAX, GNU long name): an xattr is at most 64 KiB, a path 4 KiB, and tools write few of them. */
export const MAX_EXTENDED_HEADER_BYTES = 1 << 20;

/** Longest path or link target of an entry: the kernel's PATH_MAX is 4,096 with the final zero. */
export const MAX_PATH_BYTES = 4096;

/** Segments of one sparse file; each costs memory until the file is written. */
export const MAX_SPARSE_SEGMENTS = 1 << 18;

/** Largest file, after sparse expansion: what ext4 with 4 KiB blocks can hold. */
export const MAX_FILE_BYTES = (2 ** 32 - 1) * 4096;
