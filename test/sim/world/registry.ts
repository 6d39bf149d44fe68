import { MEDIA_TYPES } from "@kiln/formats/oci";
import { type Digest, KilnError } from "@kiln/protocol";
import { type MissingContent, planImport } from "../../../packages/daemon/src/images/import-plan.ts";
import type { ContentInfo, ContentShelf, FetchedImage, FetchOptions, ImageSource } from "../../../packages/daemon/src/images/ports.ts";
import { canonicalReference } from "../../../packages/daemon/src/images/reference.ts";
import { HeldContent } from "../../../packages/daemon/src/registry/held-content.ts";
import type { Life } from "../life.ts";
import type { Troubles } from "./faults.ts";
import { sha256Of } from "./content.ts";

/** What an image is made of. */
export interface SimImage {
  /** What each layer says, the lowest first. */
  readonly layers: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
  readonly env?: readonly string[];
  readonly architecture?: string;
}

/** From root to layers are three steps; a walk that needs more is fed by somebody who removes things. */
const TURNS = 16;

/** All registries and package mirrors of the simulated world: images by reference, blobs by digest. What a name leads to may change. */
export class SimRegistry {
  readonly #roots = new Map<string, Digest>();
  readonly #blobs = new Map<Digest, Uint8Array>();
  /** How often a name was looked up, and each blob and manifest sent. */
  readonly counts = new Map<string, number>();

  /** Gives a name its content from now on. Returns the digest of its manifest. */
  put(reference: string, image: SimImage): Digest {
    const root = this.#store(image);
    this.#roots.set(canonicalReference(reference), root);
    return root;
  }

  /** The name leads nowhere from now on. */
  remove(reference: string): void {
    this.#roots.delete(canonicalReference(reference));
  }

  /** What a name leads to, without a request. */
  rootOf(reference: string): Digest | null {
    return this.#roots.get(canonicalReference(reference)) ?? null;
  }

  #store({ layers, entrypoint = [], command = [], env = [], architecture = "amd64" }: SimImage): Digest {
    const texts = layers.map((layer) => new TextEncoder().encode(layer));
    const document = (content: object): { digest: Digest; size: number } => this.#keep(new TextEncoder().encode(JSON.stringify(content)));
    const config = document({
      ...{ architecture, os: "linux", config: { Entrypoint: entrypoint, Cmd: command, Env: env } },
      rootfs: { type: "layers", diff_ids: texts.map(sha256Of) },
    });
    return document({
      ...{ schemaVersion: 2, mediaType: MEDIA_TYPES.manifest, config: { mediaType: MEDIA_TYPES.config, ...config } },
      layers: texts.map((bytes) => ({ mediaType: MEDIA_TYPES.layerTar, ...this.#keep(bytes) })),
    }).digest;
  }

  #keep(bytes: Uint8Array): { digest: Digest; size: number } {
    const digest = sha256Of(bytes);
    this.#blobs.set(digest, bytes);
    return { digest, size: bytes.length };
  }

  /** As one daemon reaches it. */
  sourceFor(parts: { content: ContentShelf; life: Life; troubles: Troubles }): ImageSource {
    return new SimSource(this, parts);
  }

  /** What a request is answered. */
  answer(reference: string): Digest {
    const root = this.#roots.get(reference);
    this.#count(reference);
    if (root === undefined) throw new KilnError("IMAGE_NOT_FOUND", `there is no image ${reference}`, { object: reference });
    return root;
  }

  send(digest: Digest): Uint8Array {
    const bytes = this.#blobs.get(digest);
    this.#count(digest);
    if (bytes === undefined) throw new KilnError("IMAGE_NOT_FOUND", `the registry has no ${digest}`, { object: digest });
    return bytes;
  }

  #count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }
}

const FAILURES = ["REGISTRY_UNREACHABLE", "REGISTRY_RATE_LIMITED", "REGISTRY_FAILED"] as const;

/** The client's side of one pull is Kiln's own: what is missing is planned, held, shared and ingested as by the real one. */
class SimSource implements ImageSource {
  readonly #registry: SimRegistry;
  readonly #parts: { readonly content: ContentShelf; readonly life: Life; readonly troubles: Troubles };

  constructor(registry: SimRegistry, parts: { content: ContentShelf; life: Life; troubles: Troubles }) {
    this.#registry = registry;
    this.#parts = parts;
  }

  accepts(): boolean {
    return true;
  }

  async resolve(reference: string, { signal }: { signal: AbortSignal }): Promise<Digest | null> {
    if (reference.startsWith("deb:")) return null;
    const pinned = pinnedDigest(reference);
    return pinned ?? this.#ask(reference, signal, () => this.#registry.answer(reference));
  }

  async fetch(reference: string, options: FetchOptions): Promise<FetchedImage> {
    const { signal, platform, lease, onPhase } = options;
    onPhase("resolve");
    const root = pinnedDigest(reference) ?? (await this.#ask(reference, signal, () => this.#registry.answer(reference)));
    const held = new HeldContent(this.#parts.content, lease);
    for (let turn = 0; turn < TURNS; turn += 1) {
      const plan = await planImport({ reference, root, tag: null, platform }, held, { signal });
      if (plan.state === "complete") return { image: plan.image, root };
      await allSettled(plan.missing.map((one) => (one.kind === "blob" ? this.#fetchBlob(one, options) : this.#ingest(one.digest, signal))));
    }
    throw new KilnError("IMAGE_CONTENT_MISSING", `blobs of ${reference} go away while they are fetched`, { object: reference });
  }

  async #fetchBlob({ digest, isDamaged = false }: MissingContent, { lease, share, signal }: FetchOptions): Promise<void> {
    lease.hold(digest);
    let isOurs = false;
    const work = {
      ...{ digest, subject: digest, find: async () => (isDamaged ? null : this.#parts.content.stat(digest)) },
      make: (context: { readonly signal: AbortSignal }) => {
        isOurs = true;
        return this.#ingest(digest, context.signal);
      },
    };
    try {
      await share(work, { signal, onProgress: () => undefined });
    } catch (error) {
      signal.throwIfAborted();
      if (isOurs) throw error;
      // whoever joins a transfer of somebody else does not inherit its failure
      await this.#ingest(digest, signal);
    }
  }

  async #ingest(digest: Digest, signal: AbortSignal): Promise<ContentInfo> {
    const bytes = await this.#ask(digest, signal, () => this.#registry.send(digest));
    const source = async function* (): AsyncGenerator<Uint8Array> {
      yield bytes;
    };
    return this.#parts.content.ingest(source(), { expected: { digest, size: bytes.length }, signal });
  }

  async #ask<Answer>(what: string, signal: AbortSignal, answer: () => Answer): Promise<Answer> {
    const { life, troubles } = this.#parts;
    await troubles.step("registry.asked", life);
    signal.throwIfAborted();
    if (troubles.happens("registry"))
      throw new KilnError(troubles.pick(FAILURES), `the simulated registry failed at ${what}`, { object: what });
    const answered = answer();
    await troubles.step("registry.answered", life);
    signal.throwIfAborted();
    return answered;
  }
}

const pinnedDigest = (reference: string): Digest | null => {
  const [, digest] = /@(sha256:[0-9a-f]{64})$/.exec(reference) ?? [];
  return digest === undefined ? null : (digest as Digest);
};

/** Returns when all have stopped; throws what the first threw. */
const allSettled = async (work: readonly Promise<unknown>[]): Promise<void> => {
  for (const end of await Promise.allSettled(work)) if (end.status === "rejected") throw end.reason;
};
