import { type DockerReference, dockerName } from "@kiln/formats/oci";
import { type Digest, isDigest, KilnError } from "@kiln/protocol";
import { Semaphore } from "@kiln/std";
import { type MissingContent, planImport } from "../images/import-plan.ts";
import type { BlobWork, ContentInfo, ContentShelf, FetchedImage, FetchOptions } from "../images/ports.ts";
import { askEach } from "./ask-each.ts";
import type { AttemptParts } from "./attempts.ts";
import { streamBlob } from "./blob-stream.ts";
import type { Endpoint } from "./endpoint.ts";
import { HeldContent } from "./held-content.ts";
import { type FetchedDocument, fetchManifest } from "./manifests.ts";
import type { Wanted } from "./naming.ts";
import { PullProgress } from "./progress.ts";

/** From root to layers there are a few indexes at most; a walk that needs more turns is fed by somebody who removes things. */
const TURNS = 16;
/** How often a blob is shared with others before it is fetched alone. */
const SHARED_TRIES = 2;

interface PullParts {
  readonly content: ContentShelf;
  readonly reference: DockerReference;
  readonly endpoints: readonly Endpoint[];
  readonly attempts: AttemptParts;
  readonly options: FetchOptions;
}

/** One image on its way into the content store. */
export class Pull {
  readonly #parts: PullParts;
  readonly #layers: Semaphore;

  constructor(parts: PullParts) {
    this.#parts = parts;
    this.#layers = new Semaphore(parts.attempts.limits.layersPerPull);
  }

  async run(): Promise<FetchedImage> {
    const { reference, options, content, attempts } = this.#parts;
    const { signal, platform, lease } = options;
    options.onPhase("resolve");
    const root = await this.#root();
    const held = new HeldContent(content, lease);
    using progress = new PullProgress({ listener: options, clock: attempts.clock, everyMs: attempts.limits.progressMs });
    let isFetching = false;
    for (let turn = 0; turn < TURNS; turn += 1) {
      const plan = await planImport({ reference: dockerName(reference), root, tag: null, platform }, held, { signal });
      if (plan.state === "complete") {
        if (!isFetching) progress.begin(plan.image.layers, () => false);
        return { image: plan.image, root };
      }
      if (!isFetching && plan.missing.some((one) => one.kind === "blob")) {
        isFetching = true;
        const bytes = plan.missing.reduce((sum, one) => sum + (one.size ?? 0), 0);
        await content.requireRoom(bytes, `the layers of ${dockerName(reference)}`);
        options.onPhase("fetch layers");
        const missing = new Set<string>(plan.missing.map((one) => one.digest));
        progress.begin(held.layers(), (digest) => missing.has(digest));
      }
      await allOrNone(plan.missing, signal, (one, inner) => this.#fetch(one, progress, inner));
    }
    throw new KilnError("IMAGE_CONTENT_MISSING", `blobs of ${dockerName(reference)} go away while they are fetched`, {
      object: dockerName(reference),
    });
  }

  /** A digest that is in the name leads there by itself. */
  async #root(): Promise<Digest> {
    const { reference, options } = this.#parts;
    const { digest, tag } = reference;
    if (digest !== null && isDigest(digest)) return digest;
    return this.#ask({ reference, digest: null }, options.signal, async (endpoint, inner) => {
      const fetched = await fetchManifest(endpoint, tag ?? "latest", inner);
      await this.#store(fetched, null, inner.signal);
      return fetched.digest;
    });
  }

  async #fetch(missing: MissingContent, progress: PullProgress, signal: AbortSignal): Promise<void> {
    if (missing.kind === "blob") {
      await this.#fetchBlob(missing, progress, signal);
      return;
    }
    const { reference } = this.#parts;
    await this.#ask({ reference, digest: missing.digest }, signal, async (endpoint, inner) =>
      this.#store(await fetchManifest(endpoint, missing.digest, inner), missing.size, inner.signal),
    );
  }

  #ask<Result>(
    wanted: Wanted,
    signal: AbortSignal,
    run: (endpoint: Endpoint, options: AttemptParts & { readonly signal: AbortSignal }) => Promise<Result>,
  ): Promise<Result> {
    return askEach(this.#parts.endpoints, { wanted, run }, { ...this.#parts.attempts, signal });
  }

  async #store({ digest, bytes }: FetchedDocument, size: number | null, signal: AbortSignal): Promise<void> {
    const { content, options } = this.#parts;
    options.lease.hold(digest);
    await content.ingest(once(bytes), { expected: { digest, size }, signal });
  }

  /** Whoever joins a transfer of somebody else does not inherit its failure: another registry may well have the blob. */
  async #fetchBlob({ digest, size, isDamaged = false }: MissingContent, progress: PullProgress, signal: AbortSignal): Promise<void> {
    const { content, options, reference } = this.#parts;
    if (size === null) throw new KilnError("INTERNAL", `nobody says how large ${digest} is`, { object: digest });
    let isOurs = false;
    const work: BlobWork = {
      digest,
      subject: dockerName({ ...reference, tag: null, digest }),
      find: async () => {
        const there = isDamaged ? null : await content.stat(digest);
        return there?.size === size ? there : null;
      },
      make: (context) => {
        isOurs = true;
        return this.#transfer(digest, size, context);
      },
    };
    options.lease.hold(digest);
    const report = ({ done }: { readonly done: number }): void => progress.update(digest, { state: "active", done });
    for (let n = 1; ; n += 1) {
      try {
        await (n <= SHARED_TRIES ? options.share(work, { signal, onProgress: report }) : work.make({ signal, report }));
        progress.update(digest, { state: "done" });
        return;
      } catch (error) {
        signal.throwIfAborted();
        if (isOurs) throw error;
      }
    }
  }

  #transfer(digest: Digest, size: number, context: Parameters<BlobWork["make"]>[0]): Promise<ContentInfo> {
    const { content, reference, attempts } = this.#parts;
    const { clock, limits } = attempts;
    let toldMs = -Infinity;
    const onBytes = (done: number): void => {
      if (clock.monotonicMs() - toldMs < limits.progressMs && done < size) return;
      toldMs = clock.monotonicMs();
      context.report({ done, total: size, unit: "bytes" });
    };
    return this.#ask({ reference, digest }, context.signal, (endpoint, inner) => {
      const permits = [this.#layers, endpoint.blobs];
      const source = streamBlob(endpoint, { digest, size, permits, onBytes, signal: inner.signal }, inner);
      return content.ingest(source, { expected: { digest, size }, signal: inner.signal });
    });
  }
}

const once = async function* (bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
};

/** Runs all at once; the first that fails stops the others, and is thrown when they have stopped. */
const allOrNone = async <Item>(
  items: readonly Item[],
  signal: AbortSignal,
  run: (item: Item, signal: AbortSignal) => Promise<void>,
): Promise<void> => {
  const stop = new AbortController();
  const inner = AbortSignal.any([signal, stop.signal]);
  const failures: unknown[] = [];
  await Promise.all(
    items.map(async (item) => {
      try {
        await run(item, inner);
      } catch (error) {
        failures.push(error);
        stop.abort(error);
      }
    }),
  );
  signal.throwIfAborted();
  const [first] = failures;
  if (failures.length > 0) throw first;
};
