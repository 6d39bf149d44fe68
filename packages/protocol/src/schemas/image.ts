import { z } from "zod";

export const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, "a digest is sha256: and 64 hex digits");

/** Pulls an image that the daemon can fetch by itself (`deb:`). */
export const pullImageRequest = z.strictObject({
  reference: z.string().min(1).max(4096),
  pull: z.enum(["missing", "always"]).default("always"),
});

/**
 * Imports an image whose blobs the caller sends. The answer names what is still missing; the caller puts those
 * blobs with `PUT /v1/content/DIGEST` and asks again.
 */
export const importImageRequest = z.strictObject({
  /** The name the image gets, for example `oci:./layout:tag`. */
  reference: z.string().min(1).max(4096),
  /** The digest of an index or a manifest. */
  root: digest,
  /** Picks the descriptor by its `org.opencontainers.image.ref.name`; null where the root has one image only. */
  tag: z.string().max(256).nullable().default(null),
});

export const importImageAnswer = z.object({
  missing: z.array(z.object({ digest: z.string(), size: z.int().nullable() })),
  image: z.lazy(() => imageView).nullable(),
});
export type ImportImageAnswer = z.output<typeof importImageAnswer>;

export const imageView = z.object({
  reference: z.string(),
  /** The manifest's digest. */
  digest: z.string(),
  platform: z.string(),
  layers: z.int(),
  /** The layers' compressed bytes together. */
  sizeBytes: z.int(),
  /** null until a rootfs was built. */
  rootfsDigest: z.string().nullable(),
  rootfsBytes: z.int().nullable(),
  createdAt: z.string(),
  inUse: z.boolean(),
});
export type ImageView = z.output<typeof imageView>;

export const kernelView = z.object({
  name: z.string(),
  digest: z.string(),
  version: z.string(),
  source: z.string(),
  sizeBytes: z.int(),
  createdAt: z.string(),
  inUse: z.boolean(),
});
export type KernelView = z.output<typeof kernelView>;
