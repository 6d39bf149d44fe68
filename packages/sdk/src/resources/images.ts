import { isDigest } from "@kiln/protocol/ids";
import { KilnError } from "@kiln/protocol/errors";
import type {
  BundleManifest,
  CustomizeImageRequest,
  ImageDetails,
  ImageView,
  ImportImageAnswer,
  OperationView,
  PromoteImageRequest,
  ReceivedContent,
  RegisterImageRequest,
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

/** A file that is sent, and how much of it has been. */
export interface SentFile extends LayoutBlob, CallOptions {
  readonly onProgress?: LayoutImport["onProgress"];
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
   * Sends an ext4 file system and makes an image of it. The operation's `result` is the image's digest; it fails with ROOTFS_INVALID where
   * the file is none that a guest can boot from, and with IMAGE_NAME_CONFLICT.
   */
  register(file: SentFile, request: Omit<RegisterImageRequest, "rootfs">): Promise<OperationView> {
    return this.#registerSent(file.signal, async () => {
      const { digest: rootfs } = await this.#api.json<ReceivedContent>("POST", "/v1/content", sending(file));
      return { ...request, rootfs };
    });
  }

  /** Takes in what `export` has written, here or elsewhere; by default under the name that it had. As `register`, and throws BUNDLE_INVALID. */
  import(
    bundle: SentFile,
    options: { readonly name?: string | undefined; readonly replace?: boolean | undefined } = {},
  ): Promise<OperationView> {
    return this.#registerSent(bundle.signal, async () => {
      const manifest = await this.#api.json<BundleManifest>("POST", "/v1/bundles", sending(bundle));
      const { reference, platform, config, rootfs } = manifest;
      return { name: options.name ?? reference, replace: options.replace ?? false, platform, config, rootfs: rootfs.digest };
    });
  }

  /** An image as a bundle, a tar packed by zstd: its rootfs, which is built first where it is not there, and how it runs. Throws IMAGE_NOT_FOUND. */
  async export(reference: string, options: CallOptions = {}): Promise<AsyncIterable<Uint8Array>> {
    const { signal } = options;
    const image = await this.inspect(reference, options);
    const json = { reference: image.reference, pull: "missing", platform: image.platform };
    await this.#api.json("POST", "/v1/images/pull", { query: { wait: true }, json, signal });
    return this.#api.stream(`/v1/bundles/${encodeURIComponent(image.reference)}`, { signal });
  }

  /** A daemon that has ended meanwhile may have swept what was sent: it is sent again, once. */
  async #registerSent(signal: AbortSignal | undefined, send: () => Promise<RegisterImageRequest>): Promise<OperationView> {
    const begin = async (): Promise<OperationView> => this.#api.json("POST", "/v1/images/register", { json: await send(), signal });
    try {
      return await begin();
    } catch (error) {
      if (error instanceof KilnError && error.code === "IMAGE_CONTENT_MISSING") return begin();
      throw error;
    }
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

const sending = (file: SentFile) => {
  const octets = { sizeBytes: file.sizeBytes, open: new SentBytes(file.onProgress).counting(file) };
  return { octets, signal: file.signal };
};

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
