import { z } from "zod";

export const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, "a digest is sha256: and 64 hex digits");

/** `os/architecture[/variant]` by Go's names. */
export const platform = z
  .string()
  .max(100)
  .regex(/^[a-z0-9]+\/[a-z0-9_]+(\/[a-z0-9_.]+)?$/, "a platform is OS/ARCHITECTURE[/VARIANT], for example linux/amd64");

/** What a create and a pull say about where an image comes from. */
export const imageSourceFields = {
  /** null: what guests on this host are. */
  platform: platform.nullable().default(null),
  /** Speak plain HTTP to a registry that is not on the loopback. */
  plainHttp: z.boolean().default(false),
};

/** Pulls an image that the daemon can fetch by itself: from a registry, or `deb:`. */
export const pullImageRequest = z.strictObject({
  reference: z.string().min(1).max(4096),
  pull: z.enum(["missing", "always"]).default("always"),
  ...imageSourceFields,
});
export type PullImage = z.output<typeof pullImageRequest>;

/** Gives an image a further name. */
export const tagImageRequest = z.strictObject({
  source: z.string().min(1).max(4096),
  /** A name as registries have them; what it named before loses it. */
  target: z.string().min(1).max(4096),
});

/**
 * A caller's credentials for registries, by host. They travel in the header `kiln-registry-auth`, as base64url of
 * JSON, beside a request that pulls, so that no record of a request ever holds them.
 */
export const registryCredentials = z.record(
  z.string().max(300),
  z.union([
    z.strictObject({ username: z.string().max(4096), password: z.string().max(65_536) }),
    /** An OAuth2 refresh token (distribution's token specification). */
    z.strictObject({ identityToken: z.string().max(65_536) }),
    z.strictObject({ registryToken: z.string().max(65_536) }),
  ]),
);
export type RegistryCredentials = z.output<typeof registryCredentials>;
export type RegistryCredential = RegistryCredentials[string];
export const REGISTRY_AUTH_HEADER = "kiln-registry-auth";

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
  /** null: what guests on this host are. */
  platform: platform.nullable().default(null),
});

export const importImageAnswer = z.object({
  missing: z.array(z.object({ digest: z.string(), size: z.int().nullable() })),
  image: z.lazy(() => imageView).nullable(),
});
export type ImportImageAnswer = z.output<typeof importImageAnswer>;

export const imageView = z.object({
  /** Written out: `docker.io/library/alpine:latest`. */
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

/** Everything that is known of an image. */
export const imageDetails = z.object({
  ...imageView.shape,
  /** The digest of what the name led to: an index, or the manifest itself. */
  rootDigest: z.string(),
  configDigest: z.string(),
  /** All names of the same manifest, this one included. */
  names: z.array(z.string()),
  rootfsKey: z.string(),
  layerList: z.array(z.object({ digest: z.string(), diffId: z.string(), mediaType: z.string(), sizeBytes: z.int() })),
  config: z.object({
    entrypoint: z.array(z.string()).nullable(),
    cmd: z.array(z.string()).nullable(),
    env: z.array(z.string()),
    workingDir: z.string(),
    user: z.string(),
    stopSignal: z.string().nullable(),
    labels: z.record(z.string(), z.string()),
    exposedPorts: z.array(z.string()),
    volumes: z.array(z.string()),
  }),
});
export type ImageDetails = z.output<typeof imageDetails>;

/** CPUs and memory: VMs of one shape start from the same pre-boot snapshot. */
export const vmShape = z.object({ cpus: z.int(), memoryBytes: z.int() });
export type VmShape = z.output<typeof vmShape>;

export const kernelView = z.object({
  name: z.string(),
  digest: z.string(),
  version: z.string(),
  source: z.string(),
  sizeBytes: z.int(),
  createdAt: z.string(),
  inUse: z.boolean(),
  /** Of which there is a pre-boot snapshot, the newest first. */
  shapes: z.array(vmShape).default([]),
});
export type KernelView = z.output<typeof kernelView>;
