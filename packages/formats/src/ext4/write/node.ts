import type { RawName } from "../../tar/index.ts";
import type { NodeKind } from "../disk/constants.ts";
import type { Timestamp } from "../disk/inode.ts";
import type { FileContent } from "./block-stream.ts";

export interface NodeMetadata {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly modifiedAt: Timestamp;
  readonly xattrs: ReadonlyMap<RawName, Uint8Array>;
}

interface NodeBase {
  readonly metadata: NodeMetadata;
}

export interface DirectoryNode extends NodeBase {
  readonly kind: "directory";
  readonly children: ReadonlyMap<RawName, FsNode>;
}

export interface FileNode extends NodeBase {
  readonly kind: "file";
  readonly content: FileContent;
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

/** A path to a node, for messages. */
export const pathOf = (node: FsNode, root: DirectoryNode): RawName => {
  const waiting: { directory: DirectoryNode; path: RawName }[] = [{ directory: root, path: "" }];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    for (const [name, child] of next.directory.children) {
      const path = `${next.path}/${name}`;
      if (child === node) return path;
      if (child.kind === "directory") waiting.push({ directory: child, path });
    }
  }
  return "/";
};
