import { type FileHandle, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { imagePlace, PLACE_HEAD_BYTES } from "@kiln/formats/ext4";
import { type Digest, KilnError } from "@kiln/protocol";
import { type FileFingerprint, randomHex, systemRandom } from "@kiln/std";
import { hasCode, readPiece } from "@kiln/std/node";
import type { ResolvedImage } from "../images/ports.ts";
import { hashFile } from "./known-files.ts";
import { CONTENT_LIMITS } from "./limits.ts";
import type { BuildWatch, RootfsDirectory } from "./rootfs-directory.ts";

interface Difference {
  readonly offset: number;
  readonly place: string;
}

/** Builds a rootfs beside the published one: to compare the two, or to put it in its place. */
export class RootfsChecks {
  readonly #rootfs: RootfsDirectory;
  readonly #stagingDir: string;

  constructor(parts: { readonly rootfs: RootfsDirectory; readonly stagingDir: string }) {
    this.#rootfs = parts.rootfs;
    this.#stagingDir = parts.stagingDir;
  }

  async compare(image: ResolvedImage, key: string, watch: BuildWatch): Promise<{ digest: Digest; difference: Difference | null }> {
    const beside = join(this.#stagingDir, `${process.pid}.${randomHex(systemRandom, 12)}.verify`);
    await using cleanup = new AsyncDisposableStack();
    cleanup.defer(() => rm(beside, { force: true }));
    const digest = await this.#rootfs.write(image, key, { ...watch, path: beside });
    watch.onPhase("compare");
    return { digest, difference: await firstDifference(beside, this.#rootfs.path(key), watch.signal) };
  }

  async rebuild(image: ResolvedImage, key: string, watch: BuildWatch): Promise<{ digest: Digest; fingerprint: FileFingerprint }> {
    return this.#rootfs.build(image, key, {
      ...watch,
      verify: async (path, digest) => {
        watch.onPhase("read back");
        const found = `sha256:${await hashFile(path, watch.signal)}`;
        if (found === digest) return;
        throw new KilnError("ARTIFACT_DAMAGED", `the new rootfs of ${image.reference} reads as ${found}, and was written as ${digest}`, {
          ...{ object: image.reference, hint: "the disk or the memory of this machine may be failing; the old rootfs is in its place" },
        });
      },
    });
  }
}

/** null where the other is the same, or is not there. */
const firstDifference = async (good: string, other: string, signal: AbortSignal): Promise<Difference | null> => {
  await using right = await open(good);
  await using left = await open(other).catch((error: unknown) => {
    if (hasCode(error, "ENOENT")) return null;
    throw error;
  });
  if (left === null) return null;
  const offset = await differingOffset(right, left, signal);
  if (offset === null) return null;
  const head = new Uint8Array(PLACE_HEAD_BYTES);
  await right.read(head, 0, head.length, 0);
  return { offset, place: imagePlace(head, offset) };
};

const differingOffset = async (one: FileHandle, other: FileHandle, signal: AbortSignal): Promise<number | null> => {
  const [a, b] = [Buffer.alloc(CONTENT_LIMITS.checkBytes), Buffer.alloc(CONTENT_LIMITS.checkBytes)];
  for (let at = 0; ;) {
    signal.throwIfAborted();
    const [read, otherRead] = await Promise.all([readPiece(one, a, at), readPiece(other, b, at)]);
    const length = Math.min(read, otherRead);
    if (a.compare(b, 0, length, 0, length) !== 0) return at + a.subarray(0, length).findIndex((byte, index) => byte !== b[index]);
    if (read !== otherRead) return at + length;
    if (read === 0) return null;
    at += read;
  }
};
