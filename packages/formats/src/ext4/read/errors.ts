export type Ext4ReadErrorCode =
  /** There is no ext4 superblock. */
  | "NOT_EXT4"
  /** The file system uses a feature that is not read here; the message has its name. */
  | "UNSUPPORTED"
  /** A checksum is wrong. */
  | "CHECKSUM"
  /** The medium is smaller than the file system on it says, or does not give what it should hold. */
  | "MEDIUM"
  /** The superblock holds a value that no file system has. */
  | "SUPERBLOCK"
  /** A group descriptor points out of the file system. */
  | "GROUP"
  /** An inode does not exist, is free, or holds an impossible value. */
  | "INODE"
  /** The block map of a file (extents, indirect blocks) is malformed or leads out of the file system. */
  | "BLOCK_MAP"
  /** A directory's entries are malformed, or one has an impossible name. */
  | "DIRECTORY"
  /** Extended attributes are malformed. */
  | "XATTR"
  /** The journal cannot be replayed. */
  | "JOURNAL"
  /** The directories make no tree: a loop, or a directory with two names. */
  | "TREE"
  /** More than the limits allow. */
  | "LIMIT"
  /** A path that was asked for is not there. */
  | "NOT_FOUND"
  /** Something that a layer's tar cannot say, such as a file whose name means a deletion there. */
  | "NOT_REPRESENTABLE"
  /** A marker of overlayfs that leads elsewhere (redirect, metacopy): the entry alone is not what it seems. */
  | "OVERLAY_MARKER";

/** An ext4 file system that cannot be read; the message names the block, the inode or the path. */
export class Ext4ReadError extends Error {
  override readonly name = "Ext4ReadError";
  readonly code: Ext4ReadErrorCode;

  constructor(code: Ext4ReadErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
