import { rawNameText } from "../../tar/index.ts";
import type { RawName } from "../../tar/index.ts";
import { Ext4Error } from "../errors.ts";
import type { FileContent } from "../write/block-stream.ts";
import type { DirectoryNode, FileNode, FsNode } from "../write/node.ts";
import type { MergedDirectory, MergedFile, MergedNode } from "./tree.ts";

interface Frozen {
  readonly root: DirectoryNode;
  /** The content that some name leads to. */
  readonly used: ReadonlySet<FileContent>;
}

const freezeFile = (node: MergedFile): FileNode => {
  const { content, metadata, names } = node.record;
  if (content === null) throw new Ext4Error("LAYER_CHANGED", `the content of ${rawNameText(names.join("/"))} was not read`);
  return { kind: "file", metadata, content };
};

/** The merged tree as what is written: one node per inode, hard links sharing theirs. Throws Ext4Error LAYER_CHANGED if content is missing. */
export const freezeTree = (root: MergedDirectory): Frozen => {
  const used = new Set<FileContent>();
  const files = new Map<MergedFile, FileNode>();
  const waiting: { from: MergedDirectory; into: Map<RawName, FsNode> }[] = [];
  const freezeDirectory = (from: MergedDirectory): DirectoryNode => {
    const into = new Map<RawName, FsNode>();
    waiting.push({ from, into });
    return { kind: "directory", metadata: from.metadata, children: into };
  };
  const freeze = (node: MergedNode): FsNode => {
    if (node.kind === "directory") return freezeDirectory(node);
    if (node.kind !== "file") return node;
    const file = files.get(node) ?? freezeFile(node);
    files.set(node, file);
    used.add(file.content);
    return file;
  };
  const frozen = freezeDirectory(root);
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    for (const [name, link] of next.from.children) next.into.set(name, freeze(link.node));
  }
  return { root: frozen, used };
};
