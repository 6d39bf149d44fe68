import type { Digest } from "@kiln/protocol";
import type { FileFingerprint } from "@kiln/std";
import type { NameClaim } from "./naming.ts";
import type { ResolvedImage } from "./ports.ts";

/** A name and what it was resolved to. */
export interface ImageRecord {
  /** Written out, as canonicalReference gives it. */
  readonly reference: string;
  readonly image: ResolvedImage;
  /** What the name led to when it was resolved: an index's digest, or the manifest's own. */
  readonly root: Digest;
  /** The rootfs is a function of it. */
  readonly rootfsKey: string;
  readonly createdAt: string;
}

export interface RootfsRecord {
  readonly key: string;
  /** sha256 of the ext4 file. */
  readonly digest: Digest;
  /** Of the file as it was published; a difference at use means: hash it again (I7). */
  readonly fingerprint: FileFingerprint;
  readonly createdAt: string;
}

/** Where images and rootfs are recorded: after their files, never before. Synchronous. */
export interface ImageStore {
  /**
   * `tagOf`: the name that this one is a further name of. With a claim, it throws IMAGE_NAME_CONFLICT where that does
   * not hold, in the transaction that names the image.
   */
  putImage(record: ImageRecord, how?: { tagOf?: string | null; claim?: NameClaim }): void;
  getImage(reference: string): ImageRecord | null;
  listImages(): readonly ImageRecord[];
  /**
   * Drops the name. Throws IMAGE_NOT_FOUND, and IMAGE_IN_USE where it is the last name of what a VM runs on, in the
   * transaction that looks it up (I23).
   */
  removeImage(reference: string): void;
  putRootfs(record: RootfsRecord): void;
  getRootfs(key: string): RootfsRecord | null;
  listRootfs(): readonly RootfsRecord[];
  /** Drops the name if it still leads to `root` and no VM uses it; says whether it did. */
  removeUnusedImage(image: Pick<ImageRecord, "reference" | "root">): boolean;
  /** Drops the record unless an image or a VM uses it; says whether it did. */
  removeUnusedRootfs(key: string): boolean;
  /** Drops a record whose file is missing or damaged. */
  forgetRootfs(key: string): void;
  isRootfsInUse(key: string): boolean;
}
