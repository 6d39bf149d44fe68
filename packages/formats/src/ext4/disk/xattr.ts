import { ACCESS_ACL, encodeAcl } from "./acl.ts";
import { BLOCK_BYTES, EXTRA_INODE_BYTES, INODE_BYTES } from "./constants.ts";
import type { NodeKind } from "./constants.ts";
import { crc32c, crc32cWord } from "./crc32c.ts";
import { Ext4Error } from "../errors.ts";

const MAGIC = 0xea02_0000;
const ENTRY_BYTES = 16;
const BLOCK_HEADER_BYTES = 32;
const END_BYTES = 4;
/** The kernel's limit, prefix included. */
const MAX_XATTR_NAME_BYTES = 255;
/** Room behind the fields of an inode: a magic number, entries, values. */
export const INODE_XATTR_BYTES = INODE_BYTES - 128 - EXTRA_INODE_BYTES;

interface Namespace {
  readonly index: number;
  /** What Linux lets have such attributes. */
  readonly on: (kind: NodeKind) => boolean;
}

const PREFIXES: readonly (readonly [string, Namespace])[] = [
  ["user.", { index: 1, on: (kind) => kind === "file" || kind === "directory" }],
  ["trusted.", { index: 4, on: () => true }],
  ["security.", { index: 6, on: () => true }],
];
const ACLS: ReadonlyMap<string, Namespace> = new Map([
  [ACCESS_ACL, { index: 2, on: (kind) => kind !== "symlink" }],
  ["system.posix_acl_default", { index: 3, on: (kind) => kind === "directory" }],
]);

interface DiskXattr {
  readonly index: number;
  readonly name: Buffer;
  readonly value: Uint8Array;
}

const align4 = (length: number): number => Math.ceil(length / 4) * 4;
const sizeOf = (xattr: DiskXattr): number => ENTRY_BYTES + align4(xattr.name.length) + align4(xattr.value.length);

/** null for one that Linux does not store, or not on such a node: it cannot be set by anyone, so it is left out. */
const toDisk = (name: string, value: Uint8Array, kind: NodeKind): DiskXattr | null => {
  const acl = ACLS.get(name);
  if (acl !== undefined) {
    const encoded = acl.on(kind) ? encodeAcl(value) : null;
    return encoded === null ? null : { index: acl.index, name: Buffer.alloc(0), value: encoded };
  }
  for (const [prefix, { index, on }] of PREFIXES) {
    if (name.length > prefix.length && name.startsWith(prefix) && on(kind))
      return { index, name: Buffer.from(name.slice(prefix.length), "latin1"), value };
  }
  return null;
};

/** The order that the kernel searches in. */
const compare = (a: DiskXattr, b: DiskXattr): number =>
  a.index - b.index || a.name.length - b.name.length || Buffer.compare(a.name, b.name);

const hashEntry = (xattr: DiskXattr): number => {
  let hash = 0;
  for (const byte of xattr.name) hash = (hash << 5) ^ (hash >>> 27) ^ ((byte << 24) >> 24);
  const padded = Buffer.alloc(align4(xattr.value.length));
  padded.set(xattr.value);
  for (let at = 0; at < padded.length; at += 4) hash = (hash << 16) ^ (hash >>> 16) ^ padded.readUInt32LE(at);
  return hash >>> 0;
};

/** Writes entries upwards from `start`, values downwards from the end; offsets count from `base`. Returns the entries' hashes. */
const writeEntries = (out: Buffer, xattrs: readonly DiskXattr[], at: { start: number; base: number }): number[] => {
  let entry = at.start;
  let valueEnd = out.length;
  return xattrs.map((xattr) => {
    const hash = hashEntry(xattr);
    valueEnd -= align4(xattr.value.length);
    out.writeUInt8(xattr.name.length, entry);
    out.writeUInt8(xattr.index, entry + 1);
    out.writeUInt16LE(xattr.value.length === 0 ? 0 : valueEnd - at.base, entry + 2);
    out.writeUInt32LE(xattr.value.length, entry + 8);
    out.writeUInt32LE(hash, entry + 12);
    out.set(xattr.name, entry + ENTRY_BYTES);
    out.set(xattr.value, valueEnd);
    entry += ENTRY_BYTES + align4(xattr.name.length);
    return hash;
  });
};

const encodeInodePart = (xattrs: readonly DiskXattr[]): Buffer | null => {
  if (xattrs.length === 0) return null;
  const out = Buffer.alloc(INODE_XATTR_BYTES);
  out.writeUInt32LE(MAGIC, 0);
  writeEntries(out, xattrs, { start: 4, base: 4 });
  return out;
};

const encodeBlockPart = (xattrs: readonly DiskXattr[]): Buffer | null => {
  if (xattrs.length === 0) return null;
  const out = Buffer.alloc(BLOCK_BYTES);
  out.writeUInt32LE(MAGIC, 0);
  out.writeUInt32LE(1, 4);
  out.writeUInt32LE(1, 8);
  const hashes = writeEntries(out, xattrs, { start: BLOCK_HEADER_BYTES, base: 0 });
  const hash = hashes.includes(0) ? 0 : hashes.reduce((all, one) => ((all << 16) ^ (all >>> 16) ^ one) >>> 0, 0);
  out.writeUInt32LE(hash, 12);
  return out;
};

export interface EncodedXattrs {
  /** The bytes behind the inode's fields. */
  readonly inInode: Buffer | null;
  /** A block of its own, still to be sealed with its number. */
  readonly inBlock: Buffer | null;
}

const NONE: EncodedXattrs = { inInode: null, inBlock: null };

/** Lays the attributes of one node out: in the inode what fits there, the rest in one block. Throws Ext4Error XATTR_TOO_LARGE or XATTR_INVALID. */
export const encodeXattrs = (xattrs: ReadonlyMap<string, Uint8Array>, kind: NodeKind): EncodedXattrs => {
  if (xattrs.size === 0) return NONE;
  const all: DiskXattr[] = [];
  for (const [name, value] of xattrs) {
    const xattr = toDisk(name, value, kind);
    if (xattr === null) continue;
    if (name.length > MAX_XATTR_NAME_BYTES)
      throw new Ext4Error("XATTR_TOO_LARGE", "the name of an extended attribute is longer than 255 bytes");
    all.push(xattr);
  }
  all.sort(compare);
  const placed = placeInOrder(all);
  const { inInode, inBlock } = fitsBlock(placed) ? placed : placeFull(all);
  if (!fitsBlock({ inBlock })) throw new Ext4Error("XATTR_TOO_LARGE", "the extended attributes of one file do not fit into a block");
  return { inInode: encodeInodePart(inInode), inBlock: encodeBlockPart(inBlock) };
};

interface Placed {
  readonly inInode: readonly DiskXattr[];
  readonly inBlock: readonly DiskXattr[];
}

const INODE_ROOM_BYTES = INODE_XATTR_BYTES - 4 - END_BYTES;
const BLOCK_ROOM_BYTES = BLOCK_BYTES - BLOCK_HEADER_BYTES - END_BYTES;

const fitsBlock = ({ inBlock }: Pick<Placed, "inBlock">): boolean =>
  inBlock.reduce((sum, xattr) => sum + sizeOf(xattr), 0) <= BLOCK_ROOM_BYTES;

/** Each in the inode if it still has room, as the kernel does it. */
const placeInOrder = (all: readonly DiskXattr[]): Placed => {
  const [inInode, inBlock]: [DiskXattr[], DiskXattr[]] = [[], []];
  let room = INODE_ROOM_BYTES;
  for (const xattr of all) {
    if (sizeOf(xattr) > room) {
      inBlock.push(xattr);
    } else {
      inInode.push(xattr);
      room -= sizeOf(xattr);
    }
  }
  return { inInode, inBlock };
};

/** Those in the inode that fill it best: then everything fits that can be made to fit. */
const placeFull = (all: readonly DiskXattr[]): Placed => {
  const best = new Map<number, readonly DiskXattr[]>([[0, []]]);
  for (const xattr of all) {
    for (const [bytes, chosen] of [...best]) {
      const sum = bytes + sizeOf(xattr);
      if (sum <= INODE_ROOM_BYTES && !best.has(sum)) best.set(sum, [...chosen, xattr]);
    }
  }
  const inInode = best.get(Math.max(...best.keys())) ?? [];
  return { inInode, inBlock: all.filter((xattr) => !inInode.includes(xattr)) };
};

/** Adds the checksum, which covers the block's own number. */
export const sealXattrBlock = (out: Buffer, block: number, seed: number): Buffer => {
  const numbered = crc32cWord(crc32cWord(seed, block % 2 ** 32), Math.floor(block / 2 ** 32));
  out.writeUInt32LE(crc32c(numbered, out), 16);
  return out;
};
