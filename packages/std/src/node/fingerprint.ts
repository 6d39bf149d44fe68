import { type BigIntStats, lstatSync } from "node:fs";
import { lstat } from "node:fs/promises";
import type { FileFingerprint } from "../file-fingerprint.ts";
import { hasCode } from "./errno.ts";

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

/** The same at once: what is looked at on every use would wait longer for a thread than for the answer. */
export function fileFingerprintNow(path: string): FileFingerprint | null {
  try {
    const stats = lstatSync(path, { bigint: true });
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
    ino: String(stats.ino),
    mtimeNs: String(stats.mtimeNs),
    ctimeNs: String(stats.ctimeNs),
  };
}
