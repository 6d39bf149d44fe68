import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { createGunzip } from "node:zlib";
import { runTool, ToolError } from "@kiln/std/node";
import { buildRootfs, type LayerSource } from "../../packages/daemon/src/content/rootfs/index.ts";
import { readLayers, type Layout } from "../compare/unpack.ts";
import { debianDev, skipImages } from "../fixtures/images.ts";
import { CACHE } from "./home.ts";
import { alternate, compare, type Figure, type Samples, timed } from "./measure.ts";

const NAME = "rootfs.build";
const RUNS = 7;
const KEY = "b".repeat(64);
const NONE: Samples = { ms: [], failures: 1 };
const PEER = "umoci+mke2fs";
/** Room for the file system of the peer, over what is unpacked. */
const MKE2FS_ROOM = 1.5;

const signal = new AbortController().signal;

/** Debian with Python, Node and git: five layers of gzip to one ext4 file, synced. */
export const benchRootfsBuild = async (): Promise<Figure> => {
  if (skipImages !== false) return compare({ name: NAME, ours: { ms: [], failures: 0 }, theirs: {}, skipped: [`${NAME}: ${skipImages}`] });
  const image = await debianDev({ signal });
  const layout = { directory: image.layout, tag: image.tag };
  const layers = await readLayers(layout);
  const scratch = join(CACHE, "staging/rootfs-build");
  await mkdir(scratch, { recursive: true });
  try {
    return await measure(layout, layers, scratch);
  } finally {
    await rm(scratch, { recursive: true });
  }
};

const measure = async (layout: Layout, layers: readonly LayerSource[], scratch: string): Promise<Figure> => {
  const unpackedBytes = await inflateHashWrite(layers, join(scratch, "first"));
  const peer = (await isInstalled("umoci")) && (await isInstalled("mke2fs"));
  /** Nobody pays for what the one before left to be written. */
  const fresh = (name: string, work: (target: string) => Promise<unknown>) => async (): Promise<number> => {
    const target = join(scratch, name);
    await rm(target, { recursive: true, force: true });
    await runTool("sync", [], { signal });
    return timed(() => work(target));
  };
  const samples = await alternate(RUNS, {
    kiln: fresh("kiln.ext4", (target) => buildRootfs({ layers, target, key: KEY }, { signal })),
    floor: fresh("floor", (target) => inflateHashWrite(layers, target)),
    ...(peer ? { [PEER]: fresh("peer", (target) => unpackAndFormat(layout, target, unpackedBytes * MKE2FS_ROOM)) } : {}),
  });
  const { kiln = NONE, ...theirs } = samples;
  const { size } = await stat(join(scratch, "kiln.ext4"));
  const details = {
    image: "debian with python, node and git",
    layers: layers.length,
    "unpacked MB": Math.round(unpackedBytes / 1e6),
    "image MB": Math.round(size / 1e6),
    "peak RSS MB": Math.round((await peakBytes(layers, join(scratch, "once.ext4"))) / 1e6),
  };
  const goals = { goal: { field: "floor", max: 1.6 }, furtherGoals: [{ field: PEER, max: 0.33 }] };
  return compare({ name: NAME, ours: kiln, theirs, details, ...goals, skipped: peer ? [] : [PEER] });
};

/** The least anyone can do: inflate, hash packed and unpacked bytes, write them once in order, fsync. Returns how many they are. */
const inflateHashWrite = async (layers: readonly LayerSource[], target: string): Promise<number> => {
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

/** The usual way, as root: a tree on the disk, then a file system of it. It is not synced. */
const unpackAndFormat = async (layout: Layout, directory: string, sizeBytes: number): Promise<void> => {
  await mkdir(directory);
  const bundle = join(directory, "bundle");
  await runTool("umoci", ["unpack", "--image", `${layout.directory}:${layout.tag}`, bundle], { signal });
  const size = `${Math.ceil(sizeBytes / 2 ** 20)}M`;
  await runTool("mke2fs", ["-q", "-t", "ext4", "-d", join(bundle, "rootfs"), join(directory, "image"), size], { signal });
};

const peakBytes = async (layers: readonly LayerSource[], target: string): Promise<number> => {
  const once = join(import.meta.dirname, "rootfs-once.ts");
  const { stdout } = await runTool(process.execPath, [once, JSON.stringify(layers), target], { signal });
  return Number(new TextDecoder().decode(stdout));
};

const isInstalled = async (tool: string): Promise<boolean> => {
  try {
    await runTool("sh", ["-c", `command -v ${tool}`], { signal });
    return true;
  } catch (error) {
    if (error instanceof ToolError) return false;
    throw error;
  }
};
