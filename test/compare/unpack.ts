/** An OCI layout as Kiln makes a file system of it, and as umoci unpacks it. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { runTool } from "@kiln/std/node";
import { buildRootfs, type LayerSource } from "../../packages/daemon/src/content/rootfs/index.ts";

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

/** Builds the file system, has e2fsck look at it, and mounts it read-only below `scratch` until it is disposed of. */
export const mountKiln = async (
  layout: Layout,
  scratch: string,
  options: Options,
): Promise<AsyncDisposable & { readonly root: string }> => {
  const [target, root] = [join(scratch, "kiln.ext4"), join(scratch, "kiln")];
  await buildRootfs({ layers: await readLayers(layout), target, key: KEY }, options);
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
