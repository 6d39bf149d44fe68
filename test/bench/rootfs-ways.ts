/** The ways from an image's layers to a file system that are measured against each other. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { createGunzip } from "node:zlib";
import { runTool, ToolError } from "@kiln/std/node";
import type { LayerSource } from "../../packages/daemon/src/content/rootfs/index.ts";
import type { Layout } from "../compare/unpack.ts";
import { ROOT } from "./home.ts";
import type { RootfsRun } from "./rootfs-once.ts";

/** Room for the file system of a peer, over what is unpacked. */
const PEER_ROOM = 1.6;
/** And for the blocks that files do not fill, the inodes and directory entries. */
const PEER_BYTES_PER_ENTRY = 8192;
const MIB = 2 ** 20;

const signal = new AbortController().signal;

export interface Subject {
  readonly layout: Layout;
  readonly layers: readonly LayerSource[];
  /** Of the layers' tars. */
  readonly unpackedBytes: number;
  readonly entries: number;
}

/** The builder in a process of its own. */
export const buildOnce = async (layers: readonly LayerSource[], target: string): Promise<RootfsRun> => {
  const env = { ...process.env, NODE_COMPILE_CACHE: join(ROOT, ".cache/compile") };
  const program = join(import.meta.dirname, "rootfs-once.ts");
  const { stdout } = await runTool(process.execPath, [program, JSON.stringify(layers), target], { signal, env });
  return JSON.parse(new TextDecoder().decode(stdout)) as RootfsRun;
};

/** The least anyone can do: inflate, hash packed and unpacked bytes, write them once in order, fsync. Returns how many they are. */
export const inflateHashWrite = async (layers: readonly LayerSource[], target: string): Promise<number> => {
  await using file = await open(target, "w");
  let total = 0;
  for (const layer of layers) {
    const [packed, unpacked] = [createHash("sha256"), createHash("sha256")];
    const source = createReadStream(layer.path, { highWaterMark: 1 << 20 }).on("data", (chunk) => packed.update(chunk));
    for await (const chunk of source.pipe(createGunzip({ chunkSize: 1 << 18 }))) {
      const bytes = chunk as Uint8Array;
      unpacked.update(bytes);
      total += bytes.length;
      await file.write(bytes);
    }
    const isWhole = layer.path.endsWith(packed.digest("hex")) && layer.diffId === `sha256:${unpacked.digest("hex")}`;
    if (!isWhole) throw new Error(`${layer.path} is damaged: remove the images of the tests`);
  }
  await file.sync();
  return total;
};

const roomFor = ({ unpackedBytes, entries }: Subject): number =>
  Math.ceil((unpackedBytes * PEER_ROOM + entries * PEER_BYTES_PER_ENTRY) / MIB) * MIB;

/** The usual way, as root: a tree on the disk, then a file system of it. It is not synced. */
export const unpackAndFormat = async (subject: Subject, directory: string): Promise<void> => {
  await mkdir(directory);
  const bundle = join(directory, "bundle");
  await runTool("umoci", ["unpack", "--image", `${subject.layout.directory}:${subject.layout.tag}`, bundle], { signal });
  const size = [`${roomFor(subject) / MIB}M`];
  const inodes = ["-N", String(Math.ceil(subject.entries * 1.1) + 1000)];
  await runTool("mke2fs", ["-q", "-t", "ext4", ...inodes, "-d", join(bundle, "rootfs"), join(directory, "image"), ...size], { signal });
};

/** Without umoci: the layers as skopeo copies them, one tar after the other on top of it, and an ext2 of that. It is not synced. */
export const copyAndExtract = async (subject: Subject, directory: string): Promise<void> => {
  const [copied, tree] = [join(directory, "copied"), join(directory, "tree")];
  await mkdir(tree, { recursive: true });
  const { layout, layers } = subject;
  await runTool("skopeo", ["copy", "--quiet", `oci:${layout.directory}:${layout.tag}`, `dir:${copied}`], { signal });
  for (const { path } of layers) {
    const blob = join(copied, path.slice(path.lastIndexOf("/") + 1));
    await runTool("tar", ["--extract", "--gzip", "--numeric-owner", `--directory=${tree}`, `--file=${blob}`], { signal });
  }
  const size = ["--block-size=4096", `--size-in-blocks=${roomFor(subject) / 4096}`];
  const inodes = [`--number-of-inodes=${Math.ceil(subject.entries * 1.1) + 1000}`];
  await runTool("genext2fs", [...size, ...inodes, `--root=${tree}`, join(directory, "image")], { signal });
};

export const isInstalled = async (...tools: readonly string[]): Promise<boolean> => {
  try {
    for (const tool of tools) await runTool("sh", ["-c", `command -v ${tool}`], { signal });
    return true;
  } catch (error) {
    if (error instanceof ToolError) return false;
    throw error;
  }
};
