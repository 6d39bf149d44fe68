/**
 * What the file system says of a file without reading it. Any write, truncation, replacement, rename, link or
 * change of mode alters it, so an equal fingerprint means an untouched file, and a different one means: look closer.
 * Plain JSON, since records keep it.
 */
export interface FileFingerprint {
  /** Bytes. */
  readonly size: number;
  readonly ino: string;
  /** Nanoseconds since 1970. */
  readonly mtimeNs: string;
  readonly ctimeNs: string;
}
