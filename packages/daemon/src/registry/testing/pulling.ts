/** A content store and an image source of a test's own, and images to pull. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MEDIA_TYPES } from "@kiln/formats/oci";
import { type Digest, isDigest, type OperationPart, type Progress, type RegistryCredentials } from "@kiln/protocol";
import { SingleFlight, systemClock, systemRandom } from "@kiln/std";
import { ContentStore } from "../../content/content-store.ts";
import type { ContentInfo, FetchedImage, ShareBlob } from "../../images/ports.ts";
import { REGISTRY_LIMITS, type RegistryLimits } from "../limits.ts";
import { loadRegistryConfig } from "../registry-config.ts";
import { RegistryImageSource, type RegistryImageSourceParts } from "../registry-image.ts";

export const PLATFORM = { os: "linux", architecture: "amd64", variant: "" } as const;

export const digestOf = (bytes: Uint8Array): Digest => {
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  assert.ok(isDigest(digest));
  return digest;
};

export interface TestImage {
  readonly layers: readonly Buffer[];
  readonly config: Buffer;
  readonly manifest: Buffer;
  /** Everything by digest, the manifest too. */
  readonly blobs: ReadonlyMap<Digest, Buffer>;
  readonly digest: Digest;
}

/** An image of these layers; their bytes are taken as they are, and nobody unpacks them. */
export const createImage = (layers: readonly Buffer[]): TestImage => {
  const { os, architecture } = PLATFORM;
  const config = Buffer.from(JSON.stringify({ os, architecture, config: {}, rootfs: { type: "layers", diff_ids: layers.map(digestOf) } }));
  const describe = (mediaType: string, bytes: Buffer): object => ({ mediaType, digest: digestOf(bytes), size: bytes.length });
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.manifest,
      config: describe(MEDIA_TYPES.config, config),
      layers: layers.map((layer) => describe(MEDIA_TYPES.layerTar, layer)),
    }),
  );
  const blobs = new Map([...layers, config, manifest].map((bytes) => [digestOf(bytes), bytes]));
  return { layers, config, manifest, blobs, digest: digestOf(manifest) };
};

export interface PullOptions {
  readonly signal?: AbortSignal;
  readonly credentials?: RegistryCredentials;
  readonly plainHttp?: boolean;
  readonly share?: ShareBlob;
  readonly onProgress?: (progress: Progress) => void;
  readonly onParts?: (parts: readonly OperationPart[]) => void;
  readonly onPhase?: (name: string) => void;
}

/** Pauses and waits of a hundredth, so that what goes wrong goes wrong quickly. */
export const FAST_LIMITS: RegistryLimits = {
  ...REGISTRY_LIMITS,
  connectMs: 1000,
  headersMs: 400,
  idleMs: 300,
  documentMs: 1500,
  attempts: 3,
  transferAttempts: 10,
  slowWindowMs: 300,
  slowWindowBytes: 2000,
  progressBytes: 1000,
  pauseMs: 2,
  pauseMaxMs: 20,
  retryAfterMs: 2000,
  mirrorRetryAfterMs: 10,
};

/** Pauses as short, but as patient as a daemon is: for a server that is as slow as its machine is busy. */
export const PATIENT_LIMITS: RegistryLimits = {
  ...FAST_LIMITS,
  connectMs: REGISTRY_LIMITS.connectMs,
  headersMs: REGISTRY_LIMITS.headersMs,
  idleMs: REGISTRY_LIMITS.idleMs,
  documentMs: REGISTRY_LIMITS.documentMs,
  slowWindowMs: REGISTRY_LIMITS.slowWindowMs,
};

/** As a daemon has it: a store, a source, and joined transfers. */
export class Puller implements AsyncDisposable {
  readonly content: ContentStore;
  readonly source: RegistryImageSource;
  readonly held = new Set<string>();
  readonly #home: string;
  readonly #flights = new SingleFlight<string, ContentInfo, Progress>();

  constructor(home: string, parts: Partial<RegistryImageSourceParts>) {
    this.#home = home;
    this.content = new ContentStore({ directory: join(home, "content"), stagingDir: join(home, "staging") });
    this.source = new RegistryImageSource({
      content: this.content,
      config: loadRegistryConfig([], { certificateDirs: [] }),
      env: {},
      clock: systemClock,
      random: systemRandom,
      userAgent: "kiln/test",
      limits: FAST_LIMITS,
      ...parts,
    });
  }

  static async open(parts: Partial<RegistryImageSourceParts> = {}): Promise<Puller> {
    return new Puller(await mkdtemp(join(tmpdir(), "kiln registry ")), parts);
  }

  readonly share: ShareBlob = async (work, options) => {
    const there = await work.find();
    if (there !== null) return there;
    return this.#flights.run(work.digest, async (context) => (await work.find()) ?? work.make(context), options);
  };

  pull(reference: string, options: PullOptions = {}): Promise<FetchedImage> {
    return this.source.fetch(reference, {
      platform: PLATFORM,
      signal: new AbortController().signal,
      credentials: {},
      plainHttp: false,
      onPhase: () => undefined,
      onProgress: () => undefined,
      onParts: () => undefined,
      share: this.share,
      lease: { hold: (name) => void this.held.add(name), linger: () => undefined, [Symbol.dispose]: () => undefined },
      ...options,
    });
  }

  resolve(reference: string, options: PullOptions = {}): Promise<Digest> {
    return this.source.resolve(reference, { signal: new AbortController().signal, credentials: {}, plainHttp: false, ...options });
  }

  /** The digests in the store, sorted; each is checked to be what it says. */
  async stored(): Promise<readonly Digest[]> {
    const found: Digest[] = [];
    for await (const { digest } of this.content.list()) {
      assert.ok(await this.content.verify(digest, { signal: new AbortController().signal }), `${digest} is whole`);
      found.push(digest);
    }
    return found.sort();
  }

  /** Fails if anything is left of what was being written. */
  async assertClean(): Promise<void> {
    await this.stored();
    assert.deepEqual(await readdir(join(this.#home, "staging")), [], "staging is empty");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.source[Symbol.asyncDispose]();
    await rm(this.#home, { recursive: true, force: true });
  }
}
