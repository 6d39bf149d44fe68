import { z } from "zod";

/** What a full reading of an artifact says. damaged: other bytes than its record or its name promises. */
export const ARTIFACT_STATES = ["whole", "missing", "damaged"] as const;
export type ArtifactState = (typeof ARTIFACT_STATES)[number];
const artifactState = z.enum(ARTIFACT_STATES);

/** What `kiln image verify` finds. */
export const imageVerification = z.object({
  kind: z.literal("image.verify"),
  reference: z.string(),
  /** The manifest's digest. */
  digest: z.string(),
  rootfsKey: z.string(),
  /** sha256 of the rootfs as it was published; null where none was built yet. */
  recorded: z.string().nullable(),
  /** Of the file that lies there now; null where it is missing. */
  found: z.string().nullable(),
  /** Of the rootfs as the layers give it; null where that cannot be said: the image has no layers, or not all are whole. */
  rebuilt: z.string().nullable(),
  /** The first byte in which the file differs from what the layers give. */
  difference: z.object({ offset: z.int(), place: z.string() }).nullable(),
  blobs: z.array(
    z.object({ digest: z.string(), kind: z.enum(["document", "layer"]), sizeBytes: z.int().nullable(), state: artifactState }),
  ),
  ok: z.boolean(),
});
export type ImageVerification = z.output<typeof imageVerification>;

/** What `kiln image rebuild` has done. */
export const imageRebuild = z.object({
  kind: z.literal("image.rebuild"),
  reference: z.string(),
  rootfsKey: z.string(),
  /** sha256 of the rootfs that was recorded before; null where there was none. */
  before: z.string().nullable(),
  /** Of the one that has taken its place. */
  digest: z.string(),
  /** Blobs that were missing or damaged, and are there again. */
  fetched: z.array(z.string()),
});
export type ImageRebuild = z.output<typeof imageRebuild>;

export const ARTIFACT_KINDS = ["blob", "rootfs", "kernel", "preboot"] as const;
export type ArtifactKind = (typeof ARTIFACT_KINDS)[number];

/** One artifact, read in full. */
export const checkedArtifact = z.object({
  kind: z.enum(ARTIFACT_KINDS),
  /** A blob's digest, or a key. */
  id: z.string(),
  /** That were read. */
  bytes: z.int(),
  state: artifactState,
  /** What became of one that is not whole; null for one that is. */
  repair: z.string().nullable(),
  /** False: an image lacks it until somebody fetches or sends it again. */
  repaired: z.boolean(),
});
export type CheckedArtifact = z.output<typeof checkedArtifact>;

/** What `kiln scrub` finds. */
export const scrubReport = z.object({
  kind: z.literal("scrub"),
  /** Those that are not whole first; no more than some thousands. */
  artifacts: z.array(checkedArtifact),
  /** How many were read, and their bytes. */
  checked: z.int(),
  bytes: z.int(),
  /** How many were missing or damaged. */
  damaged: z.int(),
  /** How many of these are not put right. */
  unrepaired: z.int(),
});
export type ScrubReport = z.output<typeof scrubReport>;

/** What an operation has found, where that is more than a name. */
export const operationReport = z.discriminatedUnion("kind", [imageVerification, imageRebuild, scrubReport]).meta({ id: "OperationReport" });
export type OperationReport = z.output<typeof operationReport>;

/** An image that is there: by name, short name or digest. */
export const verifyImageRequest = z.strictObject({ reference: z.string().min(1).max(4096) });
export type VerifyImage = z.output<typeof verifyImageRequest>;

/** The same; what is missing of it may be fetched. */
export const rebuildImageRequest = z.strictObject({
  reference: z.string().min(1).max(4096),
  /** Speak plain HTTP to a registry that is not on the loopback. */
  plainHttp: z.boolean().default(false),
});
export type RebuildImage = z.output<typeof rebuildImageRequest>;
