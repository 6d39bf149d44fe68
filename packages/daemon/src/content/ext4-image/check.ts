import { Ext4Reader, Ext4ReadError, type ByteSource } from "@kiln/formats/ext4";
import { CHECK_LIMITS } from "./limits.ts";

/** A file system that is read here, and that a guest cannot mount as its rootfs. */
export class UnmountableError extends Error {
  override readonly name = "UnmountableError";
  readonly hint: string;

  constructor(message: string, hint: string) {
    super(message);
    this.hint = hint;
  }
}

/** What is no ext4, by its first bytes: a person is told what they have. */
const KNOWN: readonly { readonly name: string; readonly offset: number; readonly magic: string }[] = [
  { name: "a qcow2 image: convert it with `qemu-img convert -O raw`", offset: 0, magic: "QFI\u00fb" },
  { name: "a tar: `kiln load` takes archives of images", offset: 257, magic: "ustar" },
  { name: "packed by gzip: unpack it first", offset: 0, magic: "\u001f\u008b" },
  { name: "packed by zstd: unpack it first, or use `kiln image import` if it is a bundle", offset: 0, magic: "\u0028\u00b5\u002f\u00fd" },
  { name: "packed by xz: unpack it first", offset: 0, magic: "\u00fd7zXZ" },
  { name: "a squashfs", offset: 0, magic: "hsqs" },
  { name: "an XFS", offset: 0, magic: "XFSB" },
  { name: "a btrfs", offset: 65_600, magic: "_BHRfS_M" },
  { name: "an ISO 9660 image", offset: 32_769, magic: "CD001" },
  { name: "a disk with partitions: take the partition out of it", offset: 510, magic: "\u0055\u00aa" },
];

const startOf = (source: ByteSource, { offset, magic }: { offset: number; magic: string }): boolean =>
  offset + magic.length <= source.sizeBytes && Buffer.from(source.read(offset, magic.length)).toString("latin1") === magic;

const whatItIs = (source: ByteSource): string => {
  if (source.sizeBytes === 0) return "the file is empty";
  const known = KNOWN.find((one) => startOf(source, one));
  return known === undefined ? "there is no ext4 superblock" : `it is no ext4, but ${known.name}`;
};

const JOURNAL = 0x4;

/** What a 5.10 kernel refuses, or cannot do on a disk that is read-only. */
const requireMountable = (reader: Ext4Reader, journalInode: number): void => {
  if (reader.needsRecovery)
    throw new UnmountableError(
      "the file system was in use when it was copied: its journal has to be replayed",
      "run `e2fsck -f FILE`, or mount it and unmount it, then register it again",
    );
  if (reader.blockBytes > CHECK_LIMITS.blockBytes)
    throw new UnmountableError(
      `the file system has blocks of ${reader.blockBytes} bytes, more than the ${CHECK_LIMITS.blockBytes} of a page`,
      "make it with `mke2fs -b 4096`",
    );
  if ((reader.features.compat & JOURNAL) !== 0 && journalInode === 0)
    throw new UnmountableError("the journal of the file system lies on another device", "remove it with `tune2fs -O ^has_journal FILE`");
};

const SUPERBLOCK_AT = 1024;
const JOURNAL_INODE_AT = 0xe0;

/**
 * Reads every name, attribute and block map of a file system that a person brings: what is reachable is whole. Returns the number of its
 * entries. Throws UnmountableError, Ext4ReadError, and what the source throws.
 */
export const checkImage = (source: ByteSource): number => {
  const reader = open(source);
  requireMountable(reader, Buffer.from(source.read(SUPERBLOCK_AT + JOURNAL_INODE_AT, 4)).readUInt32LE());
  let entries = 0;
  const seen = new Set<number>();
  for (const { inode } of reader.walk()) {
    entries += 1;
    if (inode.links > 1 && inode.type !== "directory") {
      if (seen.has(inode.number)) continue;
      seen.add(inode.number);
    }
    for (const _xattr of reader.xattrs(inode));
    if (inode.type === "file") for (const _stretch of reader.stretches(inode));
    else if (inode.type === "symlink") reader.readLink(inode);
  }
  return entries;
};

const open = (source: ByteSource): Ext4Reader => {
  try {
    return Ext4Reader.open(source);
  } catch (error) {
    if (error instanceof Ext4ReadError && error.code === "NOT_EXT4")
      throw new UnmountableError(whatItIs(source), "make one with `mke2fs -t ext4 -d DIRECTORY FILE SIZE`");
    throw error;
  }
};
