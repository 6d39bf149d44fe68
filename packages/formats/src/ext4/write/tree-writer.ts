import { rawNameBytes, rawNameText } from "../../tar/index.ts";
import { BLOCK_BYTES, FAST_SYMLINK_BYTES, INODE_BYTES, INODE_FLAGS } from "../disk/constants.ts";
import type { DirectoryEntry } from "../disk/directory.ts";
import { I_BLOCK_BYTES, MAX_EXTENT_BLOCKS, buildExtentTree } from "../disk/extents.ts";
import type { Extent } from "../disk/extents.ts";
import { writeDirectory } from "../disk/hashed-directory.ts";
import { encodeDevice, encodeInode, inodeChecksumSeed } from "../disk/inode.ts";
import { readHashSeed } from "../disk/name-hash.ts";
import { checksumSeed } from "../disk/superblock.ts";
import type { FileSystemIdentity } from "../disk/superblock.ts";
import { encodeXattrs, sealXattrBlock } from "../disk/xattr.ts";
import type { EncodedXattrs } from "../disk/xattr.ts";
import { Ext4Error } from "../errors.ts";
import type { BlockStream } from "./block-stream.ts";
import { pathOf } from "./node.ts";
import type { DirectoryNode, FsNode } from "./node.ts";
import { numberTree } from "./numbering.ts";
import type { NumberedDirectory, Numbering } from "./numbering.ts";

/** What an inode's i_block, size and block count come to. */
interface Body {
  readonly iBlock: Uint8Array;
  readonly sizeBytes: number;
  readonly blocks: number;
  readonly flags: number;
}

export interface WrittenTree {
  readonly numbering: Numbering;
  /** The inode table from inode 1 to the last one in use. */
  readonly inodes: Buffer;
}

const countBlocks = (extents: readonly Extent[]): number => extents.reduce((sum, extent) => sum + extent.count, 0);

/** Appends what a tree needs besides its files' content (directories, long symlinks, extent trees, attributes) and encodes its inodes. */
export class TreeWriter {
  readonly #stream: BlockStream;
  readonly #identity: FileSystemIdentity;
  readonly #seed: number;
  readonly #hashSeed: Int32Array;

  constructor(stream: BlockStream, identity: FileSystemIdentity) {
    this.#stream = stream;
    this.#identity = identity;
    this.#seed = checksumSeed(identity);
    this.#hashSeed = readHashSeed(identity.hashSeed);
  }

  /** Throws Ext4Error where something of the tree does not fit into ext4. */
  write(root: DirectoryNode): WrittenTree {
    const numbering = numberTree(root);
    const inodes = Buffer.alloc(numbering.lastInode * INODE_BYTES);
    const bodies = new Map<FsNode, Body>();
    for (const directory of numbering.directories) bodies.set(directory.node, this.#directory(directory, numbering));
    for (const [node, inode] of numbering.inodeOf) {
      const xattrs = this.#xattrs(node, root);
      const body = bodies.get(node) ?? this.#body(node, inode);
      const xattrBlock =
        xattrs.inBlock === null ? 0 : this.#stream.appendBlock(sealXattrBlock(xattrs.inBlock, this.#stream.nextBlock, this.#seed));
      const start = (inode - 1) * INODE_BYTES;
      const values = {
        ...body,
        kind: node.kind,
        mode: node.metadata.mode,
        uid: node.metadata.uid,
        gid: node.metadata.gid,
        links: numbering.linksOf.get(node) ?? 1,
        blocks: body.blocks + (xattrBlock === 0 ? 0 : 1),
        modifiedAt: node.metadata.modifiedAt,
        createdAt: { seconds: this.#identity.timeSeconds, nanoseconds: 0 },
        xattrBlock,
        inInodeXattrs: xattrs.inInode,
      };
      encodeInode(inodes.subarray(start, start + INODE_BYTES), values, { inode, seed: this.#seed });
    }
    return { numbering, inodes };
  }

  #xattrs(node: FsNode, root: DirectoryNode): EncodedXattrs {
    try {
      return encodeXattrs(node.metadata.xattrs, node.kind);
    } catch (error) {
      if (!(error instanceof Ext4Error)) throw error;
      throw new Ext4Error(error.code, `${rawNameText(pathOf(node, root))}: ${error.message}`);
    }
  }

  #body(node: Exclude<FsNode, DirectoryNode> | DirectoryNode, inode: number): Body {
    switch (node.kind) {
      case "file":
        return this.#mapped(node.content.extents, node.content.sizeBytes, inode);
      case "symlink":
        return this.#symlink(rawNameBytes(node.target), inode);
      case "character":
      case "block":
        return { iBlock: encodeDevice(node.deviceMajor, node.deviceMinor), sizeBytes: 0, blocks: 0, flags: 0 };
      default:
        return { iBlock: Buffer.alloc(I_BLOCK_BYTES), sizeBytes: 0, blocks: 0, flags: 0 };
    }
  }

  #mapped(extents: readonly Extent[], sizeBytes: number, inode: number): Body {
    const tree = buildExtentTree(extents, inodeChecksumSeed(this.#seed, inode), (block) => this.#stream.appendBlock(block));
    return { iBlock: tree.iBlock, sizeBytes, blocks: countBlocks(extents) + tree.treeBlocks, flags: INODE_FLAGS.extents };
  }

  #symlink(target: Uint8Array, inode: number): Body {
    if (target.length < FAST_SYMLINK_BYTES) {
      const iBlock = Buffer.alloc(I_BLOCK_BYTES);
      iBlock.set(target);
      return { iBlock, sizeBytes: target.length, blocks: 0, flags: 0 };
    }
    const block = Buffer.alloc(BLOCK_BYTES);
    block.set(target);
    const physical = this.#stream.appendBlock(block);
    return this.#mapped([{ logical: 0, physical, count: 1 }], target.length, inode);
  }

  #directory(directory: NumberedDirectory, numbering: Numbering): Body {
    const seeds = { inode: inodeChecksumSeed(this.#seed, directory.inode), hash: this.#hashSeed };
    const first = this.#stream.nextBlock;
    const { blocks, indexed } = writeDirectory(directoryEntries(directory, numbering), seeds, (block) => this.#stream.appendBlock(block));
    const body = this.#mapped(runOf(first, blocks), blocks * BLOCK_BYTES, directory.inode);
    return indexed ? { ...body, flags: body.flags | INODE_FLAGS.index } : body;
  }
}

/** Blocks one behind the other, as extents. */
const runOf = (first: number, count: number): Extent[] =>
  Array.from({ length: Math.ceil(count / MAX_EXTENT_BLOCKS) }, (_, index) => {
    const logical = index * MAX_EXTENT_BLOCKS;
    return { logical, physical: first + logical, count: Math.min(MAX_EXTENT_BLOCKS, count - logical) };
  });

const directoryEntries = (directory: NumberedDirectory, numbering: Numbering): DirectoryEntry[] => [
  { name: ".", inode: directory.inode, kind: "directory" },
  { name: "..", inode: directory.parent, kind: "directory" },
  ...directory.children.map(([name, node]) => ({ name, inode: numbering.inodeOf.get(node) ?? 0, kind: node.kind })),
];
