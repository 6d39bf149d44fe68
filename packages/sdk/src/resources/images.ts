import { isDigest } from "@kiln/protocol/ids";
import { KilnError } from "@kiln/protocol/errors";
import type {
  CustomizeImageRequest,
  ImageDetails,
  ImageView,
  ImportImageAnswer,
  OperationView,
  PromoteImageRequest,
  RegistryCredentials,
} from "@kiln/protocol";
import type { ApiClient, CallOptions } from "../api-client.ts";
import { SDK_LIMITS } from "../limits.ts";
import { registryAuthHeaders } from "../registry-auth.ts";

export interface LayoutBlob {
  readonly sizeBytes: number;
  /** Called once for each try of sending it. */
  readonly open: () => AsyncIterable<Uint8Array>;
}

export interface LayoutImport extends CallOptions {
  /** The name the image gets. */
  readonly reference: string;
  /** Which image of the index; null where it has only one. */
  readonly tag: string | null;
  /** `linux/arm64`; unless told, what guests of the daemon's host are. */
  readonly platform?: string | null | undefined;
  /** The layout's index.json, or any index or manifest that the walk begins at. */
  readonly index: Uint8Array;
  /** Finds the blob of a digest. */
  readonly readBlob: (digest: string) => Promise<LayoutBlob>;
  /** Bytes sent so far, of those known to be missing. */
  readonly onProgress?: ((progress: { readonly doneBytes: number; readonly totalBytes: number }) => void) | undefined;
}

export interface PullOptions extends CallOptions {
  /** `missing`: an image that is there is not looked for again. */
  readonly pull?: "missing" | "always" | undefined;
  /** `linux/arm64`; unless told, what guests of the daemon's host are. */
  readonly platform?: string | null | undefined;
  /** Speak plain HTTP to a registry that is not on the loopback. */
  readonly plainHttp?: boolean | undefined;
  /** For registries, by host; the daemon keeps none. */
  readonly credentials?: RegistryCredentials | undefined;
}

export interface ImportedImage {
  readonly image: ImageView;
  readonly sentBytes: number;
}

/** Rounds of "what is missing": index, manifest, config and layers need four; nested indexes a few more. */
const ROUNDS = 16;

const sha256 = async (bytes: Uint8Array): Promise<string> => {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new Uint8Array(bytes)));
  return `sha256:${Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
};

const pathOf = (reference: string): string => `/v1/images/${encodeURIComponent(reference)}`;

/** Container images. */
export class Images {
  readonly #api: ApiClient;

  constructor(api: ApiClient) {
    this.#api = api;
  }

  list(options: CallOptions = {}): Promise<ImageView[]> {
    return this.#api.json("GET", "/v1/images", options);
  }

  /** Of an image that the daemon fetches by itself, from a registry or `deb:`. The operation's `result` is the image's digest. */
  pull(reference: string, options: PullOptions = {}): Promise<OperationView> {
    const { pull = "always", platform = null, plainHttp = false, credentials, signal } = options;
    const json = { reference, pull, platform, plainHttp };
    return this.#api.json("POST", "/v1/images/pull", { json, signal, headers: registryAuthHeaders(credentials) });
  }

  /** Makes an image of what a VM that does not run has written. The operation's `result` is the image's digest. Throws VM_RUNNING, IMAGE_NAME_CONFLICT. */
  promote(vm: string, request: Omit<PromoteImageRequest, "vm">, options: CallOptions = {}): Promise<OperationView> {
    return this.#api.json("POST", "/v1/images/promote", { json: { ...request, vm }, signal: options.signal });
  }

  /**
   * Runs commands in a VM of an image and makes an image of what they leave; the same again is there already. The operation's `output` is
   * what they write, its `result` the image's digest. It fails with CUSTOMIZE_FAILED where a command does.
   */
  customize(
    image: string,
    request: Omit<CustomizeImageRequest, "image">,
    options: CallOptions & Pick<PullOptions, "credentials"> = {},
  ): Promise<OperationView> {
    const { credentials, signal } = options;
    return this.#api.json("POST", "/v1/images/customize", {
      json: { ...request, image },
      signal,
      headers: registryAuthHeaders(credentials),
    });
  }

  /** By name, short name, digest or the beginning of one. Throws IMAGE_NOT_FOUND. */
  inspect(reference: string, options: CallOptions = {}): Promise<ImageDetails> {
    return this.#api.json("GET", pathOf(reference), options);
  }

  /**
   * Reads an image in full and compares its rootfs with what its layers give; nothing changes. The operation's `report` is what was
   * found, and it fails with ARTIFACT_DAMAGED where that is not what it should be.
   */
  verify(reference: string, options: CallOptions = {}): Promise<OperationView> {
    return this.#api.json("POST", "/v1/images/verify", { json: { reference }, signal: options.signal });
  }

  /** Builds an image's rootfs again and puts it in the place of the old one; VMs that run keep that. The operation's `result` is its sha256. */
  rebuild(reference: string, options: Pick<PullOptions, "plainHttp" | "credentials" | "signal"> = {}): Promise<OperationView> {
    const { plainHttp = false, credentials, signal } = options;
    const json = { reference, plainHttp };
    return this.#api.json("POST", "/v1/images/rebuild", { json, signal, headers: registryAuthHeaders(credentials) });
  }

  /** Gives an image a further name; what that named before loses it. */
  tag(source: string, target: string, options: CallOptions = {}): Promise<ImageView> {
    return this.#api.json("POST", "/v1/images/tag", { json: { source, target }, signal: options.signal });
  }

  /** A blob of an image: a manifest, a config, a layer as it was packed. */
  readBlob(digest: string, options: CallOptions = {}): Promise<AsyncIterable<Uint8Array>> {
    return this.#api.stream(`/v1/content/${encodeURIComponent(digest)}`, options);
  }

  /** Removes a name, and with the last one what only that image needed. */
  async remove(reference: string, options: CallOptions = {}): Promise<void> {
    await this.#api.json("DELETE", pathOf(reference), options);
  }

  /**
   * Sends an OCI layout: asks what is missing, sends that, asks again until the image is whole. Only blobs that the
   * daemon lacks are read. Throws IMAGE_CONTENT_MISSING if it keeps asking for what was sent.
   */
  async importLayout(layout: LayoutImport): Promise<ImportedImage> {
    const { signal } = layout;
    const root = await sha256(layout.index);
    const rounds = new Map<string, number>();
    const sent = new SentBytes(layout.onProgress);
    for (let round = 0; round < ROUNDS; round += 1) {
      const answer = await this.#api.json<ImportImageAnswer>("POST", "/v1/images/import", {
        json: { reference: layout.reference, root, tag: layout.tag, platform: layout.platform ?? null },
        signal,
      });
      if (answer.image !== null) return { image: answer.image, sentBytes: sent.doneBytes };
      await inParallel(answer.missing, async ({ digest }) => {
        const times = (rounds.get(digest) ?? 0) + 1;
        if (times > 2 || !isDigest(digest)) {
          throw new KilnError("IMAGE_CONTENT_MISSING", `${layout.reference}: the daemon does not keep ${digest}`, {
            object: layout.reference,
          });
        }
        rounds.set(digest, times);
        const blob = digest === root ? { sizeBytes: layout.index.length, open: () => once(layout.index) } : await layout.readBlob(digest);
        const octets = { sizeBytes: blob.sizeBytes, open: sent.counting(blob) };
        await this.#api.json("PUT", `/v1/content/${digest}`, { octets, signal });
      });
    }
    throw new KilnError("IMAGE_CONTENT_MISSING", `${layout.reference}: the import does not come to an end`, { object: layout.reference });
  }
}

/** Counts what goes out, over all blobs that are known to be missing. */
class SentBytes {
  readonly #onProgress: LayoutImport["onProgress"];
  #totalBytes = 0;
  doneBytes = 0;

  constructor(onProgress: LayoutImport["onProgress"]) {
    this.#onProgress = onProgress;
  }

  counting(blob: LayoutBlob): () => AsyncIterable<Uint8Array> {
    this.#totalBytes += blob.sizeBytes;
    const add = (bytes: number) => {
      this.doneBytes += bytes;
      this.#onProgress?.({ doneBytes: this.doneBytes, totalBytes: this.#totalBytes });
    };
    return async function* counted() {
      let countedBytes = 0;
      try {
        for await (const chunk of blob.open()) {
          yield chunk;
          countedBytes += chunk.length;
          add(chunk.length);
        }
      } finally {
        if (countedBytes < blob.sizeBytes) add(-countedBytes); // a try that was cut off is sent again from its beginning
      }
    };
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Runs `work` for each item, a few at a time; all that were begun have ended when it returns or throws. */
const inParallel = async <Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> => {
  const rest = items.values();
  const workers = Array.from({ length: SDK_LIMITS.blobsInParallel }, async () => {
    for (const item of rest) await work(item);
  });
  const ended = await Promise.allSettled(workers);
  for (const end of ended) if (end.status === "rejected") throw end.reason;
};
