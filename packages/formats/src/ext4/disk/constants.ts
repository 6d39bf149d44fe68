/** Numbers of the on-disk format: https://www.kernel.org/doc/html/latest/filesystems/ext4/ */
export const BLOCK_BYTES = 4096;
export const SECTORS_PER_BLOCK = BLOCK_BYTES / 512;
export const INODE_BYTES = 256;
export const INODES_PER_BLOCK = BLOCK_BYTES / INODE_BYTES;
/** One bitmap block has a bit for each block (or inode) of a group. */
export const BLOCKS_PER_GROUP = BLOCK_BYTES * 8;
export const MAX_INODES_PER_GROUP = BLOCK_BYTES * 8;
export const DESCRIPTOR_BYTES = 64;
export const DESCRIPTORS_PER_BLOCK = BLOCK_BYTES / DESCRIPTOR_BYTES;

export const ROOT_INODE = 2;
export const JOURNAL_INODE = 8;
/** Inodes below it belong to the file system itself. */
export const FIRST_INODE = 11;
/** i_extra_isize: the fields behind the first 128 bytes of an inode, up to i_projid. */
export const EXTRA_INODE_BYTES = 32;

export const MAX_NAME_BYTES = 255;
export const MAX_LINKS = 65_000;
export const MAX_SYMLINK_BYTES = BLOCK_BYTES - 1;
/** A symlink shorter than i_block lives in the inode. */
export const FAST_SYMLINK_BYTES = 60;

export const COMPAT = { hasJournal: 0x4, extAttr: 0x8, dirIndex: 0x20, sparseSuper2: 0x200 } as const;
export const INCOMPAT = { fileType: 0x2, extents: 0x40, bits64: 0x80, flexBg: 0x200 } as const;
export const RO_COMPAT = {
  sparseSuper: 0x1,
  largeFile: 0x2,
  hugeFile: 0x8,
  dirNlink: 0x20,
  extraIsize: 0x40,
  metadataCsum: 0x400,
} as const;

export const GROUP_FLAGS = { inodeUninit: 0x1, blockUninit: 0x2, inodeZeroed: 0x4 } as const;
export const INODE_FLAGS = { index: 0x1000, hugeFile: 0x4_0000, extents: 0x8_0000 } as const;

export const MODE = {
  fifo: 0o010000,
  character: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
} as const;
export type NodeKind = keyof typeof MODE;
/** The file type that a directory entry repeats. */
export const DIRECTORY_ENTRY_TYPE: Readonly<Record<NodeKind, number>> = {
  file: 1,
  directory: 2,
  character: 3,
  block: 4,
  fifo: 5,
  symlink: 7,
};
