import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { type FileFingerprint, SingleFlight } from "@kiln/std";
import { fileFingerprintNow, sameFingerprint } from "@kiln/std/node";

/** A file that somebody was promised. */
interface KnownFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** 64 hex digits. */
  readonly sha256: string;
  /** null where no record has one. */
  readonly fingerprint: FileFingerprint | null;
}

/**
 * Whether published files are still what was published (I7). A file is read only where stat says something else than
 * its record, or than when its hash was last found right; once, for all who ask at that time.
 */
export class KnownFiles {
  /** By path: the hash, and what the file looked like before it was read. */
  readonly #seen = new Map<string, { readonly sha256: string; readonly fingerprint: FileFingerprint }>();
  readonly #hashing = new SingleFlight<string, string>();

  async isWhole({ path, size, sha256, fingerprint }: KnownFile, options: { signal: AbortSignal }): Promise<boolean> {
    const now = fileFingerprintNow(path);
    if (now === null || now.size !== size) return false;
    if (fingerprint !== null && sameFingerprint(now, fingerprint)) return true;
    const seen = this.#seen.get(path);
    if (seen?.sha256 === sha256 && sameFingerprint(now, seen.fingerprint)) return true;
    // whoever comes after a further change does not join
    const key = JSON.stringify([path, now]);
    const found = await this.#hashing.run(key, ({ signal }) => hashFile(path, signal), options);
    if (found !== sha256) return false;
    this.#seen.set(path, { sha256, fingerprint: now });
    return true;
  }

  /** It has gone, or is not to be trusted. */
  forget(path: string): void {
    this.#seen.delete(path);
  }
}

const READ_BYTES = 2 ** 20;

/** 64 hex digits. */
export const hashFile = async (path: string, signal: AbortSignal): Promise<string> => {
  await using file = await open(path);
  const hash = createHash("sha256");
  const buffer = new Uint8Array(READ_BYTES);
  for (;;) {
    signal.throwIfAborted();
    const { bytesRead } = await file.read(buffer, 0, buffer.length);
    if (bytesRead === 0) return hash.digest("hex");
    hash.update(buffer.subarray(0, bytesRead));
  }
};
