import { createHash, type Hash } from "node:crypto";
import { lstatSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { type Digest, isDigest, KilnError } from "@kiln/protocol";
import type { FileFingerprint } from "@kiln/std";
import { fileFingerprintNow, fingerprintOf, hasCode, removeFileNow, sameFingerprint } from "@kiln/std/node";
import type { ContentInfo } from "../images/ports.ts";
import { KERNEL_FILES } from "../kernels/kernel-set.ts";
import type { KernelRecord } from "../kernels/records.port.ts";
import type { PrebootRecord } from "../snapshots/preboot.ts";
import { CONTENT_LIMITS } from "./limits.ts";
import type { ContentStore } from "./content-store.ts";
import type { KernelDirectory } from "./kernel-directory.ts";
import { MEMORY_FILE, type PrebootDirectory, STATE_FILE } from "./preboot-directory.ts";
import type { RootfsDirectory } from "./rootfs-directory.ts";

interface Reading {
  readonly signal: AbortSignal;
  readonly onRead: (bytes: number) => Promise<void> | void;
}

interface ReadFile {
  readonly digest: Digest;
  readonly fingerprint: FileFingerprint;
}

interface ReadState {
  readonly bytes: number;
  readonly state: "whole" | "missing" | "damaged";
}

type Extents = readonly (readonly [offset: number, length: number])[];

/** Reads artifacts of this home in full, a piece at a time, whatever is known of them (I7). */
export class ArtifactReader {
  readonly #parts: {
    readonly content: ContentStore;
    readonly rootfs: RootfsDirectory;
    readonly kernels: KernelDirectory;
    readonly preboots: PrebootDirectory;
  };

  constructor(parts: { content: ContentStore; rootfs: RootfsDirectory; kernels: KernelDirectory; preboots: PrebootDirectory }) {
    this.#parts = parts;
  }

  blob(digest: Digest, reading: Reading): Promise<ReadFile | null> {
    return readFile(this.#parts.content.path(digest), reading);
  }

  rootfs(key: string, reading: Reading): Promise<ReadFile | null> {
    return readFile(this.#parts.rootfs.path(key), reading);
  }

  async kernel({ key, digest }: KernelRecord, reading: Reading): Promise<ReadState> {
    const { kernels } = this.#parts;
    const manifest = await kernels.findManifest(key);
    if (manifest === null) return { bytes: 0, state: "missing" };
    const states: ReadState[] = [{ bytes: 0, state: manifest.digest === digest ? "whole" : "damaged" }];
    for (const name of KERNEL_FILES) {
      const { sha256, size } = manifest.content.files[name];
      states.push(await stateOf(join(kernels.path(key), name), { sha256, size }, reading));
    }
    return joined(states);
  }

  async preboot({ key, map, state }: PrebootRecord, reading: Reading): Promise<ReadState> {
    const directory = this.#parts.preboots.path(key);
    const memory = { sha256: map.sha256, size: map.bytes, extents: map.extents };
    return joined([
      await stateOf(join(directory, STATE_FILE), state, reading),
      await stateOf(join(directory, MEMORY_FILE), memory, reading),
    ]);
  }

  blobs(): AsyncIterable<ContentInfo> {
    return this.#parts.content.list();
  }

  storedAtMs(digest: Digest): number | null {
    return lstatSync(this.#parts.content.path(digest), { throwIfNoEntry: false })?.ctimeMs ?? null;
  }

  removeBlobNow(digest: Digest, found: ReadFile): boolean {
    const path = this.#parts.content.path(digest);
    const now = fileFingerprintNow(path);
    if (now === null || !sameFingerprint(now, found.fingerprint)) return false;
    removeFileNow(path);
    return true;
  }
}

const joined = (states: readonly ReadState[]): ReadState => ({
  bytes: states.reduce((sum, { bytes }) => sum + bytes, 0),
  state: states.find(({ state }) => state !== "whole")?.state ?? "whole",
});

const stateOf = async (
  path: string,
  expected: { readonly sha256: string; readonly size: number; readonly extents?: Extents },
  reading: Reading,
): Promise<ReadState> => {
  const found = await readFile(path, reading, expected.extents);
  if (found === null) return { bytes: 0, state: "missing" };
  const { size } = found.fingerprint;
  return { bytes: size, state: size === expected.size && found.digest === `sha256:${expected.sha256}` ? "whole" : "damaged" };
};

/** The hash of the whole file, or of some of it one after the other; null where there is none. */
const readFile = async (path: string, reading: Reading, extents?: Extents): Promise<ReadFile | null> => {
  await using file = await open(path).catch((error: unknown) => {
    if (hasCode(error, "ENOENT")) return null;
    throw error;
  });
  if (file === null) return null;
  const fingerprint = fingerprintOf(await file.stat({ bigint: true }));
  const hash = createHash("sha256");
  const buffer = new Uint8Array(CONTENT_LIMITS.checkBytes);
  for (const [offset, length] of extents ?? [[0, fingerprint.size] as const]) {
    for (let at = 0; at < length;) {
      reading.signal.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, length - at), offset + at);
      if (bytesRead === 0) break; // shorter than what is looked for: the hash says so
      hash.update(buffer.subarray(0, bytesRead));
      at += bytesRead;
      await reading.onRead(bytesRead);
    }
  }
  return { digest: digestOf(hash), fingerprint };
};

const digestOf = (hash: Hash): Digest => {
  const digest = `sha256:${hash.digest("hex")}`;
  if (!isDigest(digest)) throw new KilnError("INTERNAL", `${digest} is not a digest`);
  return digest;
};
