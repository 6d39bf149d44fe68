import { z } from "zod";
import { digest, platform } from "./image.ts";
import { argument, environment, labels } from "./vm.ts";

/** How programs of an image run, as the `config` of an OCI image says it. */
export const imageExecution = z.strictObject({
  entrypoint: z.array(argument).max(4096).default([]),
  cmd: z.array(argument).max(4096).default([]),
  env: environment.max(4096).default([]),
  workingDir: z.string().max(4096).default(""),
  user: z.string().max(256).default(""),
  stopSignal: z.string().max(64).default(""),
  exposedPorts: z.array(z.string().max(64)).max(4096).default([]),
  volumes: z.array(z.string().max(4096)).max(4096).default([]),
  labels: labels.default({}),
});
export type ImageExecution = z.output<typeof imageExecution>;

/** Makes an image of an ext4 file that was sent with `POST /v1/content` or in a bundle. */
export const registerImageRequest = z.strictObject({
  name: z.string().min(1).max(4096),
  /** Whether a name that leads to another image may be moved. */
  replace: z.boolean().default(false),
  /** The file's sha256: it is the image's only layer. */
  rootfs: digest,
  /** null: what guests on this host are. */
  platform: platform.nullable().default(null),
  config: imageExecution.default(imageExecution.parse({})),
});
export type RegisterImageRequest = z.input<typeof registerImageRequest>;
export type RegisterImage = z.output<typeof registerImageRequest>;

export const receivedContent = z.object({ digest, sizeBytes: z.int() });
export type ReceivedContent = z.output<typeof receivedContent>;

export const BUNDLE_VERSION = 1;

/** The first entry of a bundle: what the others are. */
export const bundleManifest = z.strictObject({
  formatVersion: z.literal(BUNDLE_VERSION),
  reference: z.string().min(1).max(4096),
  platform,
  config: imageExecution,
  rootfs: z.strictObject({ digest, sizeBytes: z.int().min(0) }),
  /** The kernel that it was booted with where it was made; another one may do. */
  kernel: z.string().max(256).nullable(),
  createdBy: z.string().max(256),
});
export type BundleManifest = z.output<typeof bundleManifest>;
