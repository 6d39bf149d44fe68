import type { RegistryCredential } from "@kiln/protocol";
import type { Semaphore } from "@kiln/std";
import type { Answer } from "./answer.ts";
import type { RegistryLimits } from "./limits.ts";
import { refusalError, type RefusalOptions } from "./refusal.ts";
import type { HostRequest, RegistryHost } from "./registry-host.ts";

/** One repository at one host, asked in one caller's name. */
export class Endpoint {
  readonly #host: RegistryHost;
  readonly #repository: string;
  readonly #registry: string | null;
  readonly #visitor: { readonly credential: RegistryCredential | null; readonly plainHttp: boolean };

  constructor(parts: {
    readonly host: RegistryHost;
    /** As the host names it. */
    readonly repository: string;
    /** For a mirror: the registry that it mirrors. */
    readonly mirrored: string | null;
    readonly credential: RegistryCredential | null;
    readonly plainHttp: boolean;
  }) {
    const { host, repository, mirrored, credential, plainHttp } = parts;
    this.#host = host;
    this.#repository = repository;
    this.#registry = mirrored;
    this.#visitor = { credential, plainHttp };
  }

  /** For people. */
  get name(): string {
    return this.#host.name;
  }

  /** What holds here of the limits: for a mirror there is somebody else to ask. */
  limitsOf(limits: RegistryLimits): RegistryLimits {
    return this.#registry === null ? limits : { ...limits, attempts: limits.mirrorAttempts, retryAfterMs: limits.mirrorRetryAfterMs };
  }

  /** Of the blobs that come from this host at once, whoever wants them. */
  get blobs(): Semaphore {
    return this.#host.blobs;
  }

  /**
   * Asks for `manifests/REFERENCE` or `blobs/DIGEST` of the repository. Throws ExchangeError for an answer whose status is
   * none of those accepted, and for none; or the signal's reason.
   */
  async ask(
    request: Omit<HostRequest, "path"> & { readonly object: string; readonly accepted: readonly number[] },
    refusal: Omit<RefusalOptions, "signal">,
  ): Promise<Answer> {
    const { object, accepted, ...rest } = request;
    // containerd's convention: a mirror of several registries learns which is meant
    const query = this.#registry === null ? "" : `?ns=${encodeURIComponent(this.#registry)}`;
    const path = `/v2/${this.#repository}/${object}${query}`;
    const answer = await this.#host.ask({ ...rest, path }, { ...this.#visitor, repository: this.#repository });
    if (accepted.includes(answer.status)) return answer;
    throw await refusalError(answer, { ...refusal, signal: request.signal });
  }
}
