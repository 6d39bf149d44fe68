import { rawNameBytes, rawNameText } from "../../tar/index.ts";
import { BLOCK_BYTES, FAST_SYMLINK_BYTES, INODE_BYTES, INODE_FLAGS } from "../disk/constants.ts";
import type { DirectoryEntry } from "../disk/directory.ts";
import { I_BLOCK_BYTES, MAX_EXTENT_BLOCKS, buildExtentTree } from "../disk/extents.ts";
import type { Extent } from "../disk/extents.ts";
import { writeDirectory } from "../disk/hashed-directory.ts";
import { encodeDevice, encodeInode, inodeChecksumSeed } from "../disk/inode.ts";
import type { Timestamp } from "../disk/inode.ts";
import { readHashSeed } from "../disk/name-hash.ts";
import { checksumSeed } from "../disk/superblock.ts";
import type { FileSystemIdentity } from "../disk/superblock.ts";
import { encodeXattrs, sealXattrBlock } from "../disk/xattr.ts";
import type { EncodedXattrs } from "../disk/xattr.ts";
import { Ext4Error } from "../errors.ts";
import type { Sink } from "../sink.ts";
import type { BlockStream } from "./block-stream.ts";
import { entryOf, kindOf } from "./children.ts";
import type { Child } from "./children.ts";
import type { EntryTable } from "./entry-table.ts";
import type { DirectoryNode } from "./node.ts";
import { inodeAt, nodeAt, numberTree, pathOf } from "./numbering.ts";
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
  /** Writes the inode table, from inode 1 to the last one in use. */
  readonly writeInodes: (sink: Sink, offset: number) => void;
}

/** Inodes go to the sink in pieces of this size. */
const TABLE_PIECE_BYTES = 1 << 18;
const EMPTY_I_BLOCK = new Uint8Array(I_BLOCK_BYTES);

const countBlocks = (extents: readonly Extent[]): number => {
  let blocks = 0;
  for (const { count } of extents) blocks += count;
  return blocks;
};

/** Appends what a tree needs besides its files' content (directories, long symlinks, extent trees, attributes) and encodes its inodes. */
export class TreeWriter {
  readonly #stream: BlockStream;
  readonly #createdAt: Timestamp;
  readonly #entries: EntryTable;
  readonly #seed: number;
  readonly #hashSeed: Int32Array;
  /** By inode: what has blocks of its own besides content. All others are encoded again when their turn comes. */
  readonly #bodies = new Map<number, Body>();
  readonly #xattrBlocks = new Map<number, number>();

  constructor(stream: BlockStream, identity: FileSystemIdentity, entries: EntryTable) {
    this.#stream = stream;
    this.#createdAt = { seconds: identity.timeSeconds, nanoseconds: 0 };
    this.#entries = entries;
    this.#seed = checksumSeed(identity);
    this.#hashSeed = readHashSeed(identity.hashSeed);
  }

  /** Appends all blocks; the inodes are written when it is known where they go. Throws Ext4Error where something does not fit into ext4. */
  write(root: DirectoryNode): WrittenTree {
    const numbering = numberTree(root);
    for (const directory of numbering.directories) this.#bodies.set(directory.inode, this.#directory(directory, numbering));
    for (const [index, node] of numbering.nodes.entries()) {
      const inode = inodeAt(index);
      const xattrs = this.#xattrs(node, inode, numbering);
      this.#appendBody(node, inode);
      if (xattrs.inBlock === null) continue;
      this.#xattrBlocks.set(inode, this.#stream.appendBlock(sealXattrBlock(xattrs.inBlock, this.#stream.nextBlock, this.#seed)));
    }
    return { numbering, writeInodes: (sink, offset) => this.#writeInodes(numbering, sink, offset) };
  }

  #appendBody(node: Child, inode: number): void {
    if (kindOf(node) === "directory" || (kindOf(node) === "file" && this.#entries.isInOnePiece(entryOf(node)))) return;
    const before = this.#stream.nextBlock;
    const body = this.#body(node, inode);
    if (this.#stream.nextBlock > before) this.#bodies.set(inode, body);
  }

  #writeInodes(numbering: Numbering, sink: Sink, offset: number): void {
    const piece = Buffer.alloc(TABLE_PIECE_BYTES);
    let first = 1;
    const flush = (end: number): void => {
      sink.write(offset + (first - 1) * INODE_BYTES, piece.subarray(0, (end - first) * INODE_BYTES));
      piece.fill(0);
      first = end;
    };
    for (const [index, node] of numbering.nodes.entries()) {
      const inode = inodeAt(index);
      if ((inode - first + 1) * INODE_BYTES > piece.length) flush(inode);
      const start = (inode - first) * INODE_BYTES;
      this.#encode(piece.subarray(start, start + INODE_BYTES), node, { inode, links: numbering.linksOf.get(inode) ?? 1 });
    }
    flush(numbering.lastInode + 1);
  }

  #encode(out: Buffer, node: Child, { inode, links }: { inode: number; links: number }): void {
    const { mode, uid, gid, modifiedAt, xattrs } = this.#entries.metadata(entryOf(node));
    const { iBlock, sizeBytes, flags, blocks } = this.#bodies.get(inode) ?? this.#body(node, inode);
    const kind = kindOf(node);
    const xattrBlock = this.#xattrBlocks.get(inode) ?? 0;
    const inInodeXattrs = xattrs.size === 0 ? null : encodeXattrs(xattrs, kind).inInode;
    const common = {
      kind,
      mode,
      uid,
      gid,
      links,
      iBlock,
      sizeBytes,
      flags,
      modifiedAt,
      createdAt: this.#createdAt,
      xattrBlock,
      inInodeXattrs,
    };
    encodeInode(out, { ...common, blocks: blocks + (xattrBlock === 0 ? 0 : 1) }, { inode, seed: this.#seed });
  }

  #xattrs(node: Child, inode: number, numbering: Numbering): EncodedXattrs {
    try {
      return encodeXattrs(this.#entries.xattrs(entryOf(node)), kindOf(node));
    } catch (error) {
      if (!(error instanceof Ext4Error)) throw error;
      throw new Ext4Error(error.code, `${rawNameText(pathOf(inode, numbering.directories))}: ${error.message}`);
    }
  }

  #body(node: Child, inode: number): Body {
    if (typeof node === "number" || node.kind === "file") {
      const { extents, sizeBytes } = this.#entries.content(entryOf(node));
      return this.#mapped(extents, sizeBytes, inode);
    }
    switch (node.kind) {
      case "symlink":
        return this.#symlink(rawNameBytes(node.target), inode);
      case "character":
      case "block":
        return { iBlock: encodeDevice(node.deviceMajor, node.deviceMinor), sizeBytes: 0, blocks: 0, flags: 0 };
      default:
        return { iBlock: EMPTY_I_BLOCK, sizeBytes: 0, blocks: 0, flags: 0 };
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

const directoryEntries = ({ inode, parent, names, inodes }: NumberedDirectory, numbering: Numbering): DirectoryEntry[] => {
  const entries: DirectoryEntry[] = [
    { name: ".", inode, kind: "directory" },
    { name: "..", inode: parent, kind: "directory" },
  ];
  for (const [index, child] of inodes.entries())
    entries.push({ name: names[index] ?? "", inode: child, kind: kindOf(nodeAt(numbering, child) ?? 0) });
  return entries;
};
