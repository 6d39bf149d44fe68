/** An OCI layout as Kiln makes a file system of it, and as umoci unpacks it. */
import { mkdir, open, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { KilnError } from "@kiln/protocol";
import { runTool } from "@kiln/std/node";
import { build } from "../../packages/daemon/src/content/rootfs/build.ts";
import { describeFailure } from "../../packages/daemon/src/content/rootfs/failure.ts";
import { buildRootfs, ROOTFS_LIMITS, type BuiltRootfs, type LayerSource } from "../../packages/daemon/src/content/rootfs/index.ts";

interface Options {
  readonly signal: AbortSignal;
}

export interface Layout {
  readonly directory: string;
  readonly tag: string;
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

const blobPath = (layout: Layout, digest: string): string => join(layout.directory, "blobs", digest.replace(":", "/"));

const readJson = async <T>(path: string): Promise<T> => JSON.parse(await readFile(path, "utf8")) as T;

const encodingOf = (mediaType: string): LayerSource["mediaType"] => {
  if (mediaType.endsWith("+gzip")) return "tar+gzip";
  return mediaType.endsWith("+zstd") ? "tar+zstd" : "tar";
};

/** The layers of the tag's image, bottom to top, with what their tars hash to. */
export const readLayers = async (layout: Layout): Promise<LayerSource[]> => {
  const index = await readJson<{ manifests: Descriptor[] }>(join(layout.directory, "index.json"));
  const found = index.manifests.find(({ annotations }) => annotations?.["org.opencontainers.image.ref.name"] === layout.tag);
  if (found === undefined) throw new Error(`${layout.directory} has no tag ${layout.tag}`);
  const manifest = await readJson<{ config: Descriptor; layers: Descriptor[] }>(blobPath(layout, found.digest));
  const config = await readJson<{ rootfs: { diff_ids: string[] } }>(blobPath(layout, manifest.config.digest));
  return manifest.layers.map(({ digest, mediaType }, index) => ({
    path: blobPath(layout, digest),
    mediaType: encodingOf(mediaType),
    diffId: config.rootfs.diff_ids[index] ?? "",
  }));
};

const KEY = "c".repeat(64);

/** The build without its thread, which takes as long to start as a small image to build. Throws what the thread would tell as LAYER_INVALID as that. */
export const buildHere = async (request: {
  readonly layers: readonly LayerSource[];
  readonly target: string;
  readonly key: string;
}): Promise<BuiltRootfs> => {
  await using file = await open(request.target, "w+");
  const job = { fd: file.fd, directory: dirname(request.target), layers: request.layers, key: request.key, limits: ROOTFS_LIMITS };
  try {
    return await build(job, { onProgress: () => undefined, onWritten: () => undefined });
  } catch (error) {
    const { kind, message } = describeFailure(error);
    throw kind === "layer" ? new KilnError("LAYER_INVALID", message, { cause: error }) : error;
  }
};

/** Builds the file system, has e2fsck look at it, and mounts it read-only below `scratch` until it is disposed of. */
export const mountKiln = async (
  layout: Layout,
  scratch: string,
  options: Options & { readonly inThread: boolean },
): Promise<AsyncDisposable & { readonly root: string }> => {
  const [target, root] = [join(scratch, "kiln.ext4"), join(scratch, "kiln")];
  const layers = await readLayers(layout);
  if (options.inThread) await buildRootfs({ layers, target, key: KEY }, options);
  else await buildHere({ layers, target, key: KEY });
  await runTool("e2fsck", ["-fn", target], options);
  await mkdir(root);
  await runTool("mount", ["-o", "loop,ro", target, root], options);
  const unmount = (): Promise<unknown> => runTool("umount", [root], { signal: AbortSignal.timeout(60_000) });
  return { root, [Symbol.asyncDispose]: async () => void (await unmount()) };
};

/** Unpacks with umoci, without the list of hashes that `umoci repack` needs; throws ToolError where it refuses the image. */
export const unpackUmoci = async (layout: Layout, scratch: string, options: Options): Promise<string> => {
  const root = join(scratch, "umoci");
  await runTool("umoci", ["raw", "unpack", "--image", `${layout.directory}:${layout.tag}`, root], options);
  return root;
};
