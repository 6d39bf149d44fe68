import type { Digest } from "@kiln/protocol";
import { sameFingerprint } from "@kiln/std/node";
import type { KernelRecord } from "../../../packages/daemon/src/kernels/records.port.ts";
import type { ArtifactReader, ReadFile, Reading, ReadState } from "../../../packages/daemon/src/pipeline/checks.port.ts";
import type { PrebootRecord } from "../../../packages/daemon/src/snapshots/preboot.ts";
import { blobPath, type SimContent, sha256Of } from "./content.ts";
import { fingerprint, type HomeFiles } from "./home-files.ts";
import type { SimKernels } from "./kernels.ts";
import type { SimPreboots } from "./preboots.ts";
import type { SimRootfs } from "./rootfs.ts";

interface Shelves {
  readonly content: SimContent;
  readonly rootfs: SimRootfs;
  readonly kernels: SimKernels;
  readonly preboots: SimPreboots;
}

/** Reads artifacts of the simulated disk in full. */
export class SimArtifactReader implements ArtifactReader {
  readonly #home: HomeFiles;
  readonly #shelves: Shelves;

  constructor(home: HomeFiles, shelves: Shelves) {
    this.#home = home;
    this.#shelves = shelves;
  }

  blob(digest: Digest, reading: Reading): Promise<ReadFile | null> {
    return this.#read(blobPath(digest), reading);
  }

  rootfs(key: string, reading: Reading): Promise<ReadFile | null> {
    return this.#read(this.#shelves.rootfs.path(key), reading);
  }

  async #read(path: string, { signal, onRead }: Reading): Promise<ReadFile | null> {
    signal.throwIfAborted();
    const bytes = await this.#home.readIfThere(path);
    const info = this.#home.disk.info(path);
    if (bytes === null || info === null) return null;
    await onRead(bytes.length);
    return { digest: sha256Of(bytes), fingerprint: fingerprint(info) };
  }

  async kernel(record: KernelRecord, { signal }: Reading): Promise<ReadState> {
    signal.throwIfAborted();
    if (this.#home.disk.list(this.#shelves.kernels.path(record.key)).length === 0) return { bytes: 0, state: "missing" };
    const isWhole = await this.#shelves.kernels.isWhole({ ...record, fingerprints: {} });
    return { bytes: record.sizeBytes, state: isWhole ? "whole" : "damaged" };
  }

  async preboot(record: PrebootRecord, reading: Reading): Promise<ReadState> {
    const directory = this.#shelves.preboots.path(record.key);
    const [state, memory] = [await this.#read(`${directory}/state`, reading), await this.#read(`${directory}/memory`, reading)];
    if (state === null || memory === null) return { bytes: 0, state: "missing" };
    const isWhole = state.digest === `sha256:${record.state.sha256}` && memory.digest === `sha256:${record.map.sha256}`;
    return { bytes: record.state.size + record.map.bytes, state: isWhole ? "whole" : "damaged" };
  }

  blobs(): ReturnType<ArtifactReader["blobs"]> {
    return this.#shelves.content.list();
  }

  storedAtMs(digest: Digest): number | null {
    return this.#home.disk.info(blobPath(digest))?.changedMs ?? null;
  }

  removeBlobNow(digest: Digest, found: ReadFile): boolean {
    const info = this.#home.disk.info(blobPath(digest));
    if (info === null || !sameFingerprint(fingerprint(info), found.fingerprint)) return false;
    this.#home.disk.removeTree(blobPath(digest));
    return true;
  }
}
