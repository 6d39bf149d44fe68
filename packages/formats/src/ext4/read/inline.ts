/** Files and directories that live in their inode: Documentation/filesystems/ext4/inlinedata.rst. */
import { Ext4ReadError } from "./errors.ts";
import { FLAGS, I_BLOCK_AT, I_BLOCK_BYTES } from "./inode.ts";
import type { Ext4Inode } from "./inode.ts";
import { inlineTail } from "./xattr.ts";

export const isInline = (inode: Ext4Inode): boolean => (inode.flags & FLAGS.inlineData) !== 0;

/** Both parts of the data, which may be longer than the file. */
const inlineParts = (inode: Ext4Inode): readonly [Buffer, Buffer] => [
  inode.raw.subarray(I_BLOCK_AT, I_BLOCK_AT + I_BLOCK_BYTES),
  inlineTail(inode),
];

/** A file's content as far as it is there: to the kernel, and to e2fsck, a longer file ends with zeros. Throws Ext4ReadError XATTR. */
export const inlineContent = (inode: Ext4Inode): Buffer => Buffer.concat(inlineParts(inode)).subarray(0, inode.sizeBytes);

/** A symlink's target. Throws Ext4ReadError INODE or XATTR. */
export const inlineTarget = (inode: Ext4Inode): Buffer => {
  const bytes = inlineContent(inode);
  if (bytes.length < inode.sizeBytes)
    throw new Ext4ReadError("INODE", `inode ${inode.number} has ${inode.sizeBytes} bytes, of which only ${bytes.length} are in it`);
  return bytes;
};

const PARENT_BYTES = 4;

/** The stretches of directory entries; the parent's number stands in front of the first in place of "." and "..". */
export const inlineEntries = (inode: Ext4Inode): readonly Buffer[] => {
  const [first, second] = inlineParts(inode);
  return second.length === 0 ? [first.subarray(PARENT_BYTES)] : [first.subarray(PARENT_BYTES), second];
};
