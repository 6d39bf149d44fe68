import type { ImageConfig, LayerEncoding, Platform } from "@kiln/formats/oci";
import type { Digest } from "@kiln/protocol";

export interface ImageLayer {
  /** Of the blob as it is stored, packed or not. */
  readonly digest: Digest;
  /** Bytes of the blob. */
  readonly size: number;
  readonly mediaType: string;
  /** How the media type says it is packed. */
  readonly format: LayerEncoding;
  /** Of the unpacked tar. */
  readonly diffId: Digest;
}

/** What a reference stands for on this platform. JSON. */
export interface ResolvedImage {
  readonly reference: string;
  readonly manifestDigest: Digest;
  readonly configDigest: Digest;
  readonly platform: Platform;
  readonly config: ImageConfig;
  /** The lowest first. */
  readonly layers: readonly ImageLayer[];
}

export interface ExpectedContent {
  readonly digest: Digest;
  /** Bytes; null where the sender did not say. */
  readonly size: number | null;
}

export interface ContentInfo {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
}

/** A blob that is open: it can be read to its end even if it is removed meanwhile. */
export interface OpenContent extends AsyncDisposable {
  readonly size: number;
  /** The bytes from the start; may be asked for several times. Ends with the signal's reason on abort. */
  stream(options: { signal: AbortSignal }): AsyncIterable<Uint8Array>;
}

/** Blobs by sha256. One that is there is whole; asking for a name costs no reading. */
export interface ContentReader {
  /** null where it is missing. */
  stat(digest: Digest): Promise<ContentInfo | null>;
  /** A small blob as a whole. Throws IMAGE_CONTENT_MISSING, and IMAGE_INVALID past the limit. */
  read(digest: Digest, options: { limitBytes: number; signal: AbortSignal }): Promise<Uint8Array>;
}

export interface ContentShelf extends ContentReader {
  /**
   * Takes a blob in: hashed and counted while it is written, published when both are right. The source is read and
   * checked to its end even where the blob is there already. Several at once of one digest all succeed.
   * Throws CONTENT_DIGEST_MISMATCH, CONTENT_SIZE_MISMATCH, DISK_FULL, what the source throws, or the signal's
   * reason; then nothing is left behind.
   */
  ingest(source: AsyncIterable<Uint8Array>, options: { expected: ExpectedContent; signal: AbortSignal }): Promise<ContentInfo>;
  /** The same for bytes whose digest is not known before. */
  ingestUnnamed(source: AsyncIterable<Uint8Array>, options: { signal: AbortSignal }): Promise<ContentInfo>;
  has(digest: Digest): Promise<boolean>;
  /** Throws IMAGE_CONTENT_MISSING. */
  open(digest: Digest): Promise<OpenContent>;
  /** Says whether it was there. */
  remove(digest: Digest): Promise<boolean>;
  list(): AsyncIterable<ContentInfo>;
  /** Where a blob is or would be. */
  path(digest: Digest): string;
}
