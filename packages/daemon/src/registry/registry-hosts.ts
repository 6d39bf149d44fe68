import { createHash } from "node:crypto";
import type { LookupFunction } from "node:net";
import type { Clock } from "@kiln/std";
import type { RegistryLimits } from "./limits.ts";
import { type HostSettings, type Registries, type RegistryConfig, settingsOf } from "./registry-config.ts";
import { RegistryHost } from "./registry-host.ts";
import { Tokens } from "./tokens.ts";
import { type Certificates, readCertificates } from "./trust.ts";

interface HostsParts {
  readonly config: RegistryConfig;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly limits: RegistryLimits;
  readonly clock: Clock;
  readonly userAgent: string;
  readonly lookup?: LookupFunction | undefined;
}

interface OpenHost {
  readonly host: RegistryHost;
  /** Of all that it was made from; with another the host is made anew. */
  readonly fingerprint: string;
}

/** One object for each host, for as long as its settings stay what they are. */
export class RegistryHosts implements AsyncDisposable {
  readonly #parts: HostsParts;
  readonly #tokens: Tokens;
  readonly #hosts = new Map<string, OpenHost>();
  /** Hosts whose settings changed, or that were not asked for long: what they are doing they may end. */
  #retired: WeakRef<RegistryHost>[] = [];

  constructor(parts: HostsParts) {
    this.#parts = parts;
    this.#tokens = new Tokens(parts);
  }

  /** `address`: what to connect to under this name, where that is another. Throws REGISTRY_CONFIG_INVALID. */
  async open(name: string, address: string, registries: Registries): Promise<RegistryHost> {
    const settings = settingsOf(registries, name);
    const certificates = await readCertificates([name, address], settings, this.#parts.config.certificateDirs);
    const fingerprint = fingerprintOf(settings, certificates);
    const known = this.#hosts.get(address);
    if (known?.fingerprint === fingerprint) return known.host;
    if (known !== undefined) this.#retire(address, known.host);
    const host = new RegistryHost({ ...this.#parts, tokens: this.#tokens, name: address, settings, certificates });
    this.#hosts.set(address, { host, fingerprint });
    const [oldest] = this.#hosts;
    if (oldest !== undefined && this.#hosts.size > this.#parts.limits.remembered) this.#retire(oldest[0], oldest[1].host);
    return host;
  }

  #retire(address: string, host: RegistryHost): void {
    this.#hosts.delete(address);
    this.#retired = [...this.#retired.filter((one) => one.deref() !== undefined), new WeakRef(host)];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const hosts = [...this.#retired.flatMap((one) => one.deref() ?? []), ...[...this.#hosts.values()].map(({ host }) => host)];
    this.#retired = [];
    this.#hosts.clear();
    await Promise.all(hosts.map((host) => host[Symbol.asyncDispose]()));
  }
}

const fingerprintOf = (settings: HostSettings, certificates: Certificates): string =>
  createHash("sha256")
    .update(JSON.stringify([settings, certificates]))
    .digest("hex");
