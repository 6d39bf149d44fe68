/** What the checking thread is started with. The file is open for reading and belongs to the one who asks. */
export interface CheckJob {
  readonly fd: number;
  readonly sizeBytes: number;
}

export interface CheckedImage {
  /** "sha256:…" of the whole file. */
  readonly digest: string;
  /** Files, directories and all else, the root included. */
  readonly entries: number;
}

/** An error as it crosses threads. */
export interface CheckFailure {
  /** image: what the file holds; defect: all else. */
  readonly kind: "image" | "too-large" | "defect";
  readonly message: string;
  /** null: the error's own. */
  readonly hint: string | null;
}

export type CheckMessage =
  | { readonly type: "progress"; readonly done: number }
  | { readonly type: "checked"; readonly image: CheckedImage }
  | { readonly type: "failed"; readonly failure: CheckFailure };
