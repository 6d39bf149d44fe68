import type { ImageConfig, LayerEncoding, Platform } from "@kiln/formats/oci";
import type { Digest, OperationPart, Progress, RegistryCredentials } from "@kiln/protocol";

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
  ingest(
    source: AsyncIterable<Uint8Array>,
    /** `isSparse`: most of it may be zeros, which take no room; then the size says nothing of the room that it needs. */
    options: { expected: ExpectedContent; isSparse?: boolean; signal: AbortSignal },
  ): Promise<ContentInfo>;
  /** The same for bytes whose digest is not known before; `lease` holds it before it has its name. */
  ingestUnnamed(source: AsyncIterable<Uint8Array>, options: { lease: ContentLease; signal: AbortSignal }): Promise<ContentInfo>;
  /** Whether so much more fits; to be asked before much is fetched. Throws DISK_FULL with `what` and the figures. */
  requireRoom(bytes: number, what: string): Promise<void>;
  has(digest: Digest): Promise<boolean>;
  /** Throws IMAGE_CONTENT_MISSING. */
  open(digest: Digest): Promise<OpenContent>;
  /** Says whether it was there. */
  remove(digest: Digest): Promise<boolean>;
  list(): AsyncIterable<ContentInfo>;
  /** Where a blob is or would be. */
  path(digest: Digest): string;
}

/** Keeps what nothing refers to yet from the sweep, until it is disposed of. */
export interface ContentLease extends Disposable {
  /** A blob's digest or a rootfs key, from now on; to be called before one looks whether it is there. */
  hold(name: string): void;
  /** What it holds stays for some minutes after its end: whoever tries again finds it. */
  linger(): void;
}

/** Work that ends with a blob in the store. */
export interface BlobWork {
  readonly digest: Digest;
  /** For people: where it comes from. */
  readonly subject: string;
  find(): Promise<ContentInfo | null>;
  make(context: { readonly signal: AbortSignal; report(progress: Progress): void }): Promise<ContentInfo>;
}

/** Runs the work, or joins whoever is at the same digest already: all who want a blob at once get it by one transfer. */
export type ShareBlob = (
  work: BlobWork,
  options: { readonly signal: AbortSignal; readonly onProgress: (progress: Progress) => void },
) => Promise<ContentInfo>;

/** What a caller says about where an image comes from. */
export interface SourceRequest {
  /** null: what guests on this host are. */
  readonly platform: Platform | null;
  /** The caller's, by host. They are in no record. */
  readonly credentials: RegistryCredentials;
  /** Whether plain HTTP may be spoken to a registry that is not on the loopback. */
  readonly plainHttp: boolean;
}

export interface FetchOptions extends Omit<SourceRequest, "platform"> {
  readonly platform: Platform;
  readonly signal: AbortSignal;
  readonly onPhase: (name: string) => void;
  readonly onProgress: (progress: Progress) => void;
  /** The layers and how far each is, the lowest first. */
  readonly onParts: (parts: readonly OperationPart[]) => void;
  /** Holds what is fetched until the image has its record. */
  readonly lease: ContentLease;
  readonly share: ShareBlob;
}

export interface FetchedImage {
  readonly image: ResolvedImage;
  /** What the name led to: an index's digest, or the manifest's own. */
  readonly root: Digest;
}

/** Images that the daemon fetches by itself. */
export interface ImageSource {
  /** Whether this source understands the reference (the written-out form). */
  accepts(reference: string): boolean;
  /**
   * The digest that the name leads to now, as cheaply as the source can say it; null where only fetching tells.
   * Throws as `fetch` does.
   */
  resolve(reference: string, options: Pick<FetchOptions, "signal" | "credentials" | "plainHttp">): Promise<Digest | null>;
  /** Puts manifests, config and layers into the content store. Throws the image, package and registry errors of the table. */
  fetch(reference: string, options: FetchOptions): Promise<FetchedImage>;
}
