import { createHash } from "node:crypto";
import { rm } from "node:fs/promises";
import { MEDIA_TYPES, OciError, parseReference, type Platform } from "@kiln/formats/oci";
import { type Digest, KilnError, LIMITS } from "@kiln/protocol";
import type { Apt, AptSession, DownloadedPackage, ExactPackage } from "../host/apt.ts";
import { DEFAULT_PATH } from "../images/command.ts";
import { planImport } from "../images/import-plan.ts";
import type { ContentInfo, ContentShelf, FetchedImage, FetchOptions, ImageSource } from "../images/ports.ts";
import { readDebTar } from "./deb-archive.ts";

/** The label of the config that says what the image was assembled from: `NAME=VERSION`, separated by spaces. */
export const PACKAGES_LABEL = "org.kiln.packages";

type DebFetchOptions = Pick<FetchOptions, "signal" | "onPhase" | "onProgress" | "lease">;

/**
 * `deb:` images: a layer a package, its files and nothing else, in the order of their names. A function of the
 * resolved versions: the same packages give the same manifest on any host. Declared dependencies always come along;
 * what every Debian system has without saying so comes with `+essential`.
 */
export class DebImageSource implements ImageSource {
  readonly #apt: Apt;
  readonly #content: ContentShelf;
  readonly #platform: Platform;

  constructor(parts: { readonly apt: Apt; readonly content: ContentShelf; readonly platform: Platform }) {
    this.#apt = parts.apt;
    this.#content = parts.content;
    this.#platform = parts.platform;
  }

  accepts(reference: string): boolean {
    return reference.startsWith("deb:");
  }

  /** Which packages it is made of is known only once they are resolved. */
  resolve(): Promise<null> {
    return Promise.resolve(null);
  }

  /** Throws REFERENCE_INVALID, PACKAGE_NOT_FOUND, PACKAGE_FETCH_FAILED, HOST_TOOL_MISSING, DISK_FULL. */
  async fetch(reference: string, options: DebFetchOptions): Promise<FetchedImage> {
    const { signal } = options;
    const request = parseDebReference(reference);
    await using session = await this.#apt.open({ signal });
    // a mirror may have dropped a version since the lists were fetched: then both are done again
    const downloaded = await this.#apt.withFreshLists(async () => {
      options.onPhase("resolve packages");
      const packages = await session.resolve(request, { signal });
      if (packages.length > LIMITS.layers) {
        throw new KilnError("REFERENCE_INVALID", `${reference} is ${packages.length} packages, more than ${LIMITS.layers}`, {
          object: reference,
        });
      }
      options.onPhase("fetch packages");
      return session.download(packages, { signal });
    }, options);
    options.onPhase("unpack packages");
    const layers = await this.#unpack(downloaded, options);
    const root = await this.#assemble(downloaded, layers, options);
    const plan = await planImport({ reference, root, tag: null, platform: this.#platform }, this.#content, { signal });
    if (plan.state === "complete") return { image: plan.image, root };
    throw new KilnError("IMAGE_CONTENT_MISSING", `blobs of ${reference} were removed while it was assembled`, { object: reference });
  }

  async #unpack(packages: readonly DownloadedPackage[], options: DebFetchOptions): Promise<readonly ContentInfo[]> {
    const { signal, lease } = options;
    const layers: ContentInfo[] = [];
    for (const { path } of packages) {
      layers.push(await readDebTar(path, (tar) => this.#content.ingestUnnamed(tar, { lease, signal }), { signal }));
      await rm(path);
      options.onProgress({ done: layers.length, total: packages.length, unit: "packages" });
    }
    return layers;
  }

  /** Stores config and manifest; they have no time, no host and no order but that of the names. */
  async #assemble(packages: readonly ExactPackage[], layers: readonly ContentInfo[], options: DebFetchOptions): Promise<Digest> {
    const { os, architecture } = this.#platform;
    const label = packages.map(({ name, version }) => `${name}=${version}`).join(" ");
    const config = await this.#storeJson(
      {
        architecture,
        os,
        config: { Env: [`PATH=${DEFAULT_PATH}`], Labels: { [PACKAGES_LABEL]: label } },
        rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.digest) },
      },
      options,
    );
    const manifest = await this.#storeJson(
      {
        schemaVersion: 2,
        mediaType: MEDIA_TYPES.manifest,
        config: { mediaType: MEDIA_TYPES.config, ...config },
        layers: layers.map((layer) => ({ mediaType: MEDIA_TYPES.layerTar, ...layer })),
      },
      options,
    );
    return manifest.digest;
  }

  async #storeJson(document: object, { lease, signal }: DebFetchOptions): Promise<ContentInfo> {
    const bytes = new TextEncoder().encode(JSON.stringify(document));
    const digest: Digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}` as Digest;
    lease.hold(digest);
    const source = async function* (): AsyncGenerator<Uint8Array> {
      yield bytes;
    };
    return this.#content.ingest(source(), { expected: { digest, size: bytes.length }, signal });
  }
}

type DebRequest = Parameters<AptSession["resolve"]>[0];

const parseDebReference = (reference: string): DebRequest => {
  try {
    const parsed = parseReference(reference);
    if (parsed.transport === "deb") return parsed;
  } catch (error) {
    if (error instanceof OciError) throw new KilnError("REFERENCE_INVALID", error.message, { cause: error, object: reference });
    throw error;
  }
  throw new KilnError("REFERENCE_INVALID", `${reference} is not a deb: reference`, { object: reference });
};
