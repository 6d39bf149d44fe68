import { createHash } from "node:crypto";
import { mkdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, isDigest, KilnError } from "@kiln/protocol";
import { type Clock, type FileFingerprint, randomHex, systemRandom } from "@kiln/std";
import { fileFingerprintNow, hasCode, publishDirectory, sameFingerprint } from "@kiln/std/node";
import type { Apt } from "../host/apt.ts";
import { KERNEL_FILES, KERNEL_MANIFEST, kernelBuilderDigest, type KernelManifest, parseKernelManifest } from "../kernels/kernel-set.ts";
import type { KernelRecord } from "../kernels/records.port.ts";
import type { KernelFiles } from "../vms/driver.port.ts";
import { DebianKernelBuilder } from "./debian-kernel.ts";
import { KnownFiles } from "./known-files.ts";

const ALL_FILES = [...KERNEL_FILES, KERNEL_MANIFEST] as const;
type Fingerprints = Readonly<Record<string, FileFingerprint>>;

/** What a boot needs of a set. */
export interface KernelSetFiles extends KernelFiles {
  readonly modulesImage: string;
  /** To load before disks and overlay can be used, in order. */
  readonly setupModules: readonly string[];
  /** To load for a NIC, in order. */
  readonly networkModules: readonly string[];
}

interface BuildOptions {
  readonly signal: AbortSignal;
  readonly onPhase: (name: string) => void;
}

/** Kernel sets as directories `<directory>/<key>/`: vmlinux, initramfs, modules.ext4 and manifest.json, read-only. One that has its name is whole. */
export class KernelDirectory {
  readonly #directory: string;
  readonly #stagingDir: string;
  readonly #clock: Clock;
  readonly #builder: DebianKernelBuilder;
  readonly #files = new KnownFiles();

  constructor(parts: {
    readonly directory: string;
    readonly stagingDir: string;
    readonly agentPath: string;
    readonly apt: Apt;
    readonly clock: Clock;
  }) {
    this.#directory = parts.directory;
    this.#stagingDir = parts.stagingDir;
    this.#clock = parts.clock;
    this.#builder = new DebianKernelBuilder(parts);
  }

  path(key: string): string {
    return join(this.#directory, key);
  }

  builderDigest(): Promise<string> {
    return this.#builder.builderDigest();
  }

  /** A set that is there and whole is taken as it is; a damaged one makes way. Safe to call many times at once, in many processes. */
  async build(options: BuildOptions): Promise<KernelRecord> {
    const { signal } = options;
    options.onPhase("resolve kernel");
    const plan = await this.#builder.plan({ signal });
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await mkdir(this.#stagingDir, { recursive: true, mode: 0o700 });
    if (!(await this.verify(plan.key, { signal }))) {
      await this.remove(plan.key);
      await publishDirectory({
        target: this.path(plan.key),
        stagingDir: this.#stagingDir,
        ifExists: "keep",
        signal,
        write: async (directory) => void (await this.#builder.build(plan, directory, options)),
      });
    }
    return this.#toRecord(plan.key);
  }

  /** A set that looks as it did when it was recorded is; of another one the files that look different are hashed (I7). */
  async isWhole(record: KernelRecord, { signal }: { signal: AbortSignal }): Promise<boolean> {
    const { key, digest, fingerprints = {} } = record;
    const now = this.#fingerprints(key);
    const isUntouched = (name: string): boolean => {
      const [one, other] = [fingerprints[name], now[name]];
      return one !== undefined && other !== undefined && sameFingerprint(one, other);
    };
    if (ALL_FILES.every(isUntouched)) return true;
    const manifest = await this.#readManifest(key);
    if (manifest === null || manifest.digest !== digest) return false;
    return this.#areWhole(manifest.content, { key, fingerprints, signal });
  }

  /** Hashes every file of the set against its manifest, whatever is known of it. */
  async verify(key: string, { signal }: { signal: AbortSignal }): Promise<boolean> {
    this.#forget(key);
    const manifest = await this.#readManifest(key);
    if (manifest === null || manifest.content.key !== key) return false;
    return this.#areWhole(manifest.content, { key, fingerprints: {}, signal });
  }

  async #areWhole(
    { files }: KernelManifest,
    { key, fingerprints, signal }: { key: string; fingerprints: Fingerprints; signal: AbortSignal },
  ): Promise<boolean> {
    for (const name of KERNEL_FILES) {
      const file = { path: join(this.path(key), name), ...files[name], fingerprint: fingerprints[name] ?? null };
      if (!(await this.#files.isWhole(file, { signal }))) return false;
    }
    return true;
  }

  #forget(key: string): void {
    for (const name of KERNEL_FILES) this.#files.forget(join(this.path(key), name));
  }

  async open(key: string): Promise<KernelSetFiles> {
    const manifest = await this.#requireManifest(key);
    const directory = this.path(key);
    const { block, overlay, net } = manifest.content.modules;
    return {
      vmlinux: join(directory, "vmlinux"),
      initramfs: join(directory, "initramfs"),
      modulesImage: join(directory, "modules.ext4"),
      digest: manifest.digest,
      setupModules: [...new Set([...block, ...overlay])],
      networkModules: net,
    };
  }

  /** The set's own words. Throws ARTIFACT_DAMAGED. */
  async manifest(key: string): Promise<KernelManifest> {
    return (await this.#requireManifest(key)).content;
  }

  /** The name goes at once; a VM that has the files open keeps them. Idempotent. */
  async remove(key: string): Promise<void> {
    const aside = join(this.#stagingDir, `${process.pid}.${randomHex(systemRandom, 12)}.kernel`);
    this.#forget(key);
    try {
      await rename(this.path(key), aside);
    } catch (error) {
      if (hasCode(error, "ENOENT")) return;
      throw error;
    }
    await rm(aside, { recursive: true });
  }

  async #toRecord(key: string): Promise<KernelRecord> {
    const { content, digest } = await this.#requireManifest(key);
    const { agentSha256, builderVersion, files, name, package: source } = content;
    return {
      ...{ key, name, digest, version: source.version },
      source: `deb:${source.name}=${source.version}`,
      builderDigest: kernelBuilderDigest({ agentSha256, builderVersion }),
      sizeBytes: KERNEL_FILES.reduce((total, file) => total + files[file].size, 0),
      fingerprints: this.#fingerprints(key),
      createdAt: new Date(this.#clock.now()).toISOString(),
    };
  }

  async #requireManifest(key: string): Promise<ReadManifest> {
    const manifest = await this.#readManifest(key);
    if (manifest === null) throw new KilnError("ARTIFACT_DAMAGED", `the kernel ${key} is not there`, { object: key });
    return manifest;
  }

  /** null where there is none that can be read. */
  findManifest(key: string): Promise<ReadManifest | null> {
    return this.#readManifest(key);
  }

  async #readManifest(key: string): Promise<ReadManifest | null> {
    try {
      const text = await readFile(join(this.path(key), KERNEL_MANIFEST), "utf8");
      const digest = `sha256:${createHash("sha256").update(text).digest("hex")}`;
      return isDigest(digest) ? { content: parseKernelManifest(text, key), digest } : null;
    } catch (error) {
      if (errnoOf(error) === "ENOENT" || (error instanceof KilnError && error.code === "ARTIFACT_DAMAGED")) return null;
      throw error;
    }
  }

  #fingerprints(key: string): Fingerprints {
    const found: [string, FileFingerprint][] = [];
    for (const name of ALL_FILES) {
      const fingerprint = fileFingerprintNow(join(this.path(key), name));
      if (fingerprint !== null) found.push([name, fingerprint]);
    }
    return Object.fromEntries(found);
  }
}

interface ReadManifest {
  readonly content: KernelManifest;
  readonly digest: KernelRecord["digest"];
}
