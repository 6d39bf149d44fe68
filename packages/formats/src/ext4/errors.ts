export type Ext4ErrorCode =
  /** A path has "..", is empty where it must not be, or climbs out of the root. */
  | "PATH_UNSAFE"
  /** A name of a path is longer than 255 bytes. */
  | "NAME_TOO_LONG"
  /** A symlink's target is empty or longer than 4,095 bytes. */
  | "SYMLINK_INVALID"
  /** Symlinks on the way to an entry go round in circles. */
  | "SYMLINK_LOOP"
  /** A hard link's target does not exist, or is a directory. */
  | "LINK_INVALID"
  /** More hard links to one file than ext4 can count (65,000). */
  | "TOO_MANY_LINKS"
  /** More entries than the limit allows. */
  | "TOO_MANY_ENTRIES"
  /** The extended attributes of one file do not fit beside its inode and in one block. */
  | "XATTR_TOO_LARGE"
  /** An extended attribute (an ACL, for one) is malformed. */
  | "XATTR_INVALID"
  /** A device number that Linux cannot hold. */
  | "DEVICE_INVALID"
  /** An overlay marker that cannot be honoured (redirect, metacopy). */
  | "OVERLAY_MARKER"
  /** The image, or a disk that was asked for, is larger than the limit. */
  | "TOO_LARGE"
  /** A disk that was asked for is too small for a file system. */
  | "TOO_SMALL"
  /** The same layer read again is not the same. */
  | "LAYER_CHANGED";

/** Content that cannot become an ext4 file system; the message names the entry. */
export class Ext4Error extends Error {
  override readonly name = "Ext4Error";
  readonly code: Ext4ErrorCode;

  constructor(code: Ext4ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
