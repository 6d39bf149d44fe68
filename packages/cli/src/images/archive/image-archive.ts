import type { LayoutBlob } from "@kiln/sdk";

/** One image of an archive. */
export interface ArchivedImage {
  /** Its names, written out; empty where the archive gives it none. */
  readonly names: readonly string[];
  /** For messages: how the archive speaks of it. */
  readonly label: string;
  /** Its manifest or index, where an import begins. */
  readonly readRoot: () => Promise<Uint8Array>;
}

/** An archive as an OCI layout has it: documents and blobs by digest. */
export interface ImageArchive {
  readonly form: "oci" | "docker";
  readonly images: readonly ArchivedImage[];
  /** Of an OCI archive: its index.json as it is, and the tags in it. */
  readonly index: { readonly bytes: Uint8Array; readonly tags: ReadonlySet<string> } | null;
  /** Throws IMAGE_INVALID where the archive lacks it. */
  readBlob(digest: string): Promise<LayoutBlob>;
}
