import type { BigIntStats } from "node:fs";
import { lstat } from "node:fs/promises";
import { hasCode } from "./errno.ts";

/**
 * What the file system says of a file without reading it. Any write, truncation, replacement, rename, link or
 * change of mode alters it, so an equal fingerprint means an untouched file, and a different one means: look closer.
 */
export interface FileFingerprint {
  /** Bytes. */
  readonly size: number;
  readonly ino: bigint;
  /** Nanoseconds since 1970. */
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

/** The fingerprint of the regular file at `path`; null if there is none (a link or a directory is none). */
export async function fileFingerprint(path: string): Promise<FileFingerprint | null> {
  try {
    const stats = await lstat(path, { bigint: true });
    return stats.isFile() ? fingerprintOf(stats) : null;
  } catch (error) {
    if (hasCode(error, "ENOENT", "ENOTDIR")) return null;
    throw error;
  }
}

export function sameFingerprint(a: FileFingerprint, b: FileFingerprint): boolean {
  return a.size === b.size && a.ino === b.ino && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs;
}

export function fingerprintOf(stats: BigIntStats): FileFingerprint {
  return {
    size: Number(stats.size),
    ino: stats.ino,
    mtimeNs: stats.mtimeNs,
    ctimeNs: stats.ctimeNs,
  };
}
