import type { RawName } from "../../tar/index.ts";
import type { NodeKind } from "../disk/constants.ts";
import type { Timestamp } from "../disk/inode.ts";
import type { Children } from "./children.ts";
import type { EntryId } from "./entry-table.ts";

export interface NodeMetadata {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly modifiedAt: Timestamp;
  readonly xattrs: ReadonlyMap<RawName, Uint8Array>;
}

interface NodeBase {
  /** The entry with its metadata, and a file's content. */
  entry: EntryId;
  /** 0 until the tree is numbered. */
  inode: number;
}

export interface DirectoryNode extends NodeBase {
  readonly kind: "directory";
  readonly children: Children;
}

export interface FileNode extends NodeBase {
  readonly kind: "file";
}

export interface SymlinkNode extends NodeBase {
  readonly kind: "symlink";
  /** 1 to 4,095 bytes. */
  readonly target: RawName;
}

export interface SpecialNode extends NodeBase {
  readonly kind: Exclude<NodeKind, "directory" | "file" | "symlink">;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
}

/** What becomes one inode. The same object under several names is a file with several hard links. */
export type FsNode = DirectoryNode | FileNode | SymlinkNode | SpecialNode;

/** A name in a directory; `layer` is the topmost layer that has put or named it. */
export interface Link {
  readonly node: FsNode;
  readonly layer: number;
}
