import type { LookupFunction } from "node:net";
import { type DockerReference, dockerName, OciError, parseReference } from "@kiln/formats/oci";
import { type Digest, isDigest, KilnError } from "@kiln/protocol";
import type { Clock, RandomSource } from "@kiln/std";
import type { ContentShelf, FetchedImage, FetchOptions, ImageSource } from "../images/ports.ts";
import { askEach } from "./ask-each.ts";
import type { AttemptParts } from "./attempts.ts";
import { BoundedMap } from "./bounded-map.ts";
import { credentialFor } from "./credentials.ts";
import { Endpoint } from "./endpoint.ts";
import { REGISTRY_LIMITS, type RegistryLimits } from "./limits.ts";
import { resolveTag, type SeenManifest } from "./manifests.ts";
import { parseRegistryReference } from "./naming.ts";
import { Pull } from "./pull.ts";
import { type Registries, type RegistryConfig, settingsOf } from "./registry-config.ts";
import { RegistryHosts } from "./registry-hosts.ts";

export interface RegistryImageSourceParts {
  readonly content: ContentShelf;
  readonly config: RegistryConfig;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly userAgent: string;
  readonly limits?: RegistryLimits;
  /** Replaces the system's resolver. */
  readonly lookup?: LookupFunction;
}

type CallerOptions = Pick<FetchOptions, "signal" | "credentials" | "plainHttp">;

/** The API of docker's registry is elsewhere than its name says. */
const DOCKER_DOMAIN = "docker.io";
const DOCKER_HOST = "registry-1.docker.io";

/** Images in registries that speak the OCI distribution protocol, version 1.1. */
export class RegistryImageSource implements ImageSource, AsyncDisposable {
  readonly #parts: RegistryImageSourceParts;
  readonly #attempts: AttemptParts;
  readonly #hosts: RegistryHosts;
  readonly #seen: BoundedMap<SeenManifest>;

  constructor(parts: RegistryImageSourceParts) {
    const limits = parts.limits ?? REGISTRY_LIMITS;
    this.#parts = parts;
    this.#attempts = { clock: parts.clock, random: parts.random, limits };
    this.#hosts = new RegistryHosts({ ...parts, limits });
    this.#seen = new BoundedMap(limits.remembered);
  }

  accepts(reference: string): boolean {
    try {
      return parseReference(reference).transport === "docker";
    } catch (error) {
      if (error instanceof OciError) return false;
      throw error;
    }
  }

  async resolve(reference: string, options: CallerOptions): Promise<Digest> {
    const named = parseRegistryReference(reference);
    const { digest, tag } = named;
    if (digest !== null && isDigest(digest)) return digest;
    const endpoints = await this.#endpoints(named, options);
    const run = (endpoint: Endpoint, inner: AttemptParts & { readonly signal: AbortSignal }): Promise<Digest> =>
      resolveTag(endpoint, tag ?? "latest", { ...inner, seen: this.#seen, key: `${endpoint.name} ${dockerName(named)}` });
    return askEach(endpoints, { wanted: { reference: named, digest: null }, run }, { ...this.#attempts, signal: options.signal });
  }

  async fetch(reference: string, options: FetchOptions): Promise<FetchedImage> {
    const named = parseRegistryReference(reference);
    const endpoints = await this.#endpoints(named, options);
    const { content } = this.#parts;
    return new Pull({ content, reference: named, endpoints, attempts: this.#attempts, options }).run();
  }

  /** Ends all connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#hosts[Symbol.asyncDispose]();
  }

  /** The mirrors in their order, then the registry itself. */
  async #endpoints(reference: DockerReference, { credentials, plainHttp }: CallerOptions): Promise<readonly Endpoint[]> {
    const registries = await this.#parts.config.read();
    const { domain, repository } = reference;
    if (settingsOf(registries, domain).blocked) throw blockedError(reference);
    const places = [...mirrorsOf(domain, registries), { name: domain, prefix: "", mirrored: null }];
    return Promise.all(
      places.map(async ({ name, prefix, mirrored }) => {
        const host = await this.#hosts.open(name, name === DOCKER_DOMAIN ? DOCKER_HOST : name, registries);
        const there = `${prefix}${repository}`;
        const credential = credentialFor(credentials, name, there);
        return new Endpoint({ host, repository: there, mirrored, credential, plainHttp: plainHttp && mirrored === null });
      }),
    );
  }
}

const mirrorsOf = (domain: string, registries: Registries): readonly { name: string; prefix: string; mirrored: string }[] =>
  settingsOf(registries, domain)
    .mirrors.map((mirror) => {
      const [name = "", ...namespace] = mirror.split("/");
      return { name, prefix: namespace.map((part) => `${part}/`).join(""), mirrored: domain };
    })
    .filter(({ name }) => !settingsOf(registries, name).blocked);

const blockedError = (reference: DockerReference): KilnError =>
  new KilnError("PERMISSION_DENIED", `${dockerName(reference)} is not fetched: registries.toml blocks ${reference.domain}`, {
    object: dockerName(reference),
    hint: "take `blocked` out of registries.toml, or use another registry",
  });
