import { chmod, open, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { WRITER_VERSION } from "@kiln/formats/ext4";
import type { Digest } from "@kiln/protocol";
import { ImageBlobs } from "../../../../cli/src/testing/image-files.ts";
import { ArtifactReader } from "../../content/artifact-reader.ts";
import { ContentStore } from "../../content/content-store.ts";
import { KernelDirectory } from "../../content/kernel-directory.ts";
import { PrebootDirectory } from "../../content/preboot-directory.ts";
import { RootfsChecks } from "../../content/rootfs-checks.ts";
import { RootfsDirectory } from "../../content/rootfs-directory.ts";
import { Apt } from "../../host/apt.ts";
import { planImport } from "../../images/import-plan.ts";
import type { ImageRecord } from "../../images/records.port.ts";
import { rootfsKey } from "../../images/rootfs-key.ts";
import { ImageChecks } from "../../pipeline/checks.ts";
import { Pipeline } from "../../pipeline/pipeline.ts";
import { ImageRefetch } from "../../pipeline/refetch.ts";
import type { Core } from "../core.ts";
import { prepareHome } from "../../store/home.ts";
import { createFakeCore, type FakeCore } from "./fake-core.ts";

const { signal } = new AbortController();

/** The fake core with real blobs and rootfs below it, and an image made of two layers. */
export interface RealArtifacts extends AsyncDisposable {
  readonly core: Core;
  readonly fake: FakeCore;
  readonly image: ImageRecord;
  readonly staging: string;
  /** Of the image's rootfs, which is built. */
  readonly rootfsPath: string;
  readonly blobPath: (digest: Digest) => string;
  /** Path of a layer, the lowest first. */
  readonly layerPath: (index: number) => string;
}

export const createRealArtifacts = async (options: { checkpoint?: (name: string) => Promise<void> } = {}): Promise<RealArtifacts> => {
  const fake = await createFakeCore();
  const { config, leases, images, kernels, clock, work, platform } = fake.core;
  const paths = await prepareHome(join(config.home, "real"));
  const stagingDir = paths.staging;
  const shelf = new ContentStore({ directory: paths.content, stagingDir });
  const rootfsFiles = new RootfsDirectory({ directory: paths.rootfs, stagingDir, blobPath: (digest) => shelf.path(digest) });
  const checkpoint = options.checkpoint ?? (async () => undefined);
  const apt = new Apt({ stagingDir, clock });
  const kernelSets = new KernelDirectory({ directory: paths.kernels, stagingDir, agentPath: "", apt, clock });
  const preboots = new PrebootDirectory({ directory: paths.preboots, stagingDir, program: "" });
  const reader = new ArtifactReader({ content: shelf, rootfs: rootfsFiles, kernels: kernelSets, preboots });
  const pipeline = new Pipeline({
    ...{ work, clock, images, kernels, leases, rootfsFiles, kernelSets, checkpoint, platform, sources: [] },
    content: { isComplete: async ({ layers }) => (await Promise.all(layers.map((layer) => shelf.has(layer.digest)))).every(Boolean) },
    rootfsKey: (image) => rootfsKey(image, { version: String(WRITER_VERSION), options: {} }),
    distinguish: (secret) => secret,
  });
  const rootfsChecks = new RootfsChecks({ rootfs: rootfsFiles, stagingDir });
  const checks = new ImageChecks({ work, clock, images, leases, reader, rootfsChecks, checkpoint });
  const refetch = new ImageRefetch({ images, sources: [], work });
  const core = { ...fake.core, blobs: shelf, artifacts: reader, rootfsFiles, kernelSets, pipeline, checks, refetch };
  const image = await addImage(core, shelf);
  await pipeline.ensureRootfs(image, { signal });
  return {
    ...{ core, fake, image, staging: stagingDir, rootfsPath: rootfsFiles.path(image.rootfsKey), blobPath: (digest) => shelf.path(digest) },
    layerPath: (index) => shelf.path(requireLayer(image, index)),
    [Symbol.asyncDispose]: () => fake[Symbol.asyncDispose](),
  };
};

const requireLayer = ({ image }: ImageRecord, index: number): Digest => {
  const layer = image.layers[index];
  if (layer === undefined) throw new Error(`there is no layer ${index}`);
  return layer.digest;
};

const REFERENCE = "oci:/layout:one";

const addImage = async (core: Core, shelf: ContentStore): Promise<ImageRecord> => {
  const made = new ImageBlobs();
  const manifest = made.image({ tag: null, layers: ["one", "two"] });
  for (const [digest, bytes] of made.blobs) {
    await shelf.ingest([bytes] as never, { expected: { digest: digest as Digest, size: bytes.length }, signal });
  }
  const root = manifest.digest as Digest;
  const plan = await planImport({ reference: REFERENCE, root, tag: null, platform: core.platform }, shelf, { signal });
  if (plan.state !== "complete") throw new Error("the image is not complete");
  const record = core.pipeline.imageRecord(REFERENCE, { image: plan.image, root });
  core.images.putImage(record);
  return record;
};

/** Changes one byte as a failing disk would: size and mtime stay, ctime does not. */
export const flipByte = async (path: string, offset: number): Promise<void> => {
  const { atime, mtime } = await stat(path);
  await chmod(path, 0o644);
  {
    await using file = await open(path, "r+");
    const byte = new Uint8Array(1);
    await file.read(byte, 0, 1, offset);
    await file.write(Uint8Array.of((byte[0] ?? 0) ^ 1), 0, 1, offset);
  }
  await chmod(path, 0o444);
  await utimes(path, atime, mtime);
};
