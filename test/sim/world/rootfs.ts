import { type Digest, KilnError } from "@kiln/protocol";
import { type FileFingerprint, SingleFlight } from "@kiln/std";
import { publishFileOn, sameFingerprint } from "@kiln/std/node";
import { wholeFileSystem } from "../../../packages/daemon/src/images/ext4-image.ts";
import type { ResolvedImage } from "../../../packages/daemon/src/images/ports.ts";
import type { RootfsRecord } from "../../../packages/daemon/src/images/records.port.ts";
import type { RootfsFiles } from "../../../packages/daemon/src/pipeline/artifacts.port.ts";
import type { RootfsChecks } from "../../../packages/daemon/src/pipeline/checks.port.ts";
import { blobPath, orDiskFull, removeNow, sha256Of } from "./content.ts";
import { fingerprint, type HomeFiles, type OpenFile } from "./home-files.ts";
import { HOME } from "./paths.ts";

type Built = { digest: Digest; fingerprint: FileFingerprint };

/** Rootfs on the simulated disk: a pure function of the layers' bytes, and a record's digest is that of the file's. */
export class SimRootfs implements RootfsFiles, RootfsChecks {
  readonly #home: HomeFiles;
  readonly #hashing = new SingleFlight<string, string>();

  constructor(home: HomeFiles) {
    this.#home = home;
  }

  path(key: string): string {
    return `${HOME.rootfs}/${key}.ext4`;
  }

  async build(image: ResolvedImage, key: string, { signal }: { signal: AbortSignal }): Promise<Built> {
    const bytes = await this.#make(image, signal);
    return orDiskFull(key, async () => {
      const { size, ino, mtimeNs, ctimeNs } = await publishFileOn<OpenFile>(this.#home, {
        ...{ target: this.path(key), stagingDir: HOME.staging, mode: 0o444, ifExists: "replace", signal },
        write: (_file, path) => this.#home.write(path, bytes),
      });
      return { digest: sha256Of(bytes), fingerprint: { size, ino, mtimeNs, ctimeNs } };
    });
  }

  /** Throws IMAGE_CONTENT_MISSING and LAYER_INVALID, as the real writer where a layer is not what it was. */
  async #make(image: ResolvedImage, signal: AbortSignal): Promise<Uint8Array> {
    const layers: Uint8Array[] = [];
    for (const { digest } of image.layers) {
      signal.throwIfAborted();
      const bytes = await this.#home.readIfThere(blobPath(digest));
      if (bytes === null) throw new KilnError("IMAGE_CONTENT_MISSING", `the layer ${digest} is missing`, { object: digest });
      if (sha256Of(bytes) !== digest) throw new KilnError("LAYER_INVALID", `the layer ${digest} is damaged`, { object: digest });
      layers.push(bytes);
    }
    // the blob itself gets a further name
    return wholeFileSystem(image) === null ? Buffer.concat([Buffer.from("rootfs "), ...layers]) : Buffer.concat(layers);
  }

  async isWhole({ key, digest, fingerprint: recorded }: RootfsRecord, options: { signal: AbortSignal }): Promise<boolean> {
    const info = this.#home.disk.info(this.path(key));
    if (info === null || info.size !== recorded.size) return false;
    const now = fingerprint(info);
    if (sameFingerprint(now, recorded)) return true;
    const found = await this.#hashing.run(JSON.stringify([key, now]), async () => this.#hash(this.path(key)), options);
    return found === digest;
  }

  async #hash(path: string): Promise<string> {
    return sha256Of(await this.#home.files.read(path));
  }

  removeNow(key: string): number {
    return removeNow(this.#home, this.path(key));
  }

  async compare(image: ResolvedImage, key: string, { signal }: { signal: AbortSignal }): ReturnType<RootfsChecks["compare"]> {
    const good = await this.#make(image, signal);
    const other = await this.#home.readIfThere(this.path(key));
    const isSame = other === null || sha256Of(other) === sha256Of(good);
    return { digest: sha256Of(good), difference: isSame ? null : { offset: 0, place: "the beginning" } };
  }

  rebuild(image: ResolvedImage, key: string, watch: { signal: AbortSignal }): Promise<Built> {
    return this.build(image, key, watch);
  }
}
