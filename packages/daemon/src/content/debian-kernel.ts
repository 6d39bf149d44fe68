import { createHash, type Hash } from "node:crypto";
import { chmod, open, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { extractVmlinux, KernelFormatError, pvhEntry } from "@kiln/formats/elf-kernel";
import { WRITER_VERSION } from "@kiln/formats/ext4";
import { errnoOf, KilnError } from "@kiln/protocol";
import type { FileFingerprint } from "@kiln/std";
import { fileFingerprintNow, sameFingerprint } from "@kiln/std/node";
import type { Apt, AptSession, PackageFacts } from "../host/apt.ts";
import {
  KERNEL_BUILDER_VERSION,
  KERNEL_FILES,
  KERNEL_MANIFEST,
  kernelBuilderDigest,
  kernelKey,
  type KernelManifest,
} from "../kernels/kernel-set.ts";
import { readDebTar } from "./deb-archive.ts";
import { buildInitramfs } from "./initramfs.ts";
import { indexedModuleFiles, planModules, readModules } from "./kernel-modules.ts";
import { type KernelPackage, readKernelPackage } from "./kernel-package.ts";
import { writeModulesTar } from "./modules-tar.ts";
import { buildRootfs } from "./rootfs/index.ts";

/** The catalog's name. */
export const DEBIAN_CLOUD = "debian-cloud";

/** Debian's architecture to the package that always names the newest cloud kernel. */
const META_PACKAGES: Readonly<Record<string, string>> = { amd64: "linux-image-cloud-amd64" };
const VERSIONED = /^(linux-image-\d\S*) \(= (\S+)\)$/;

/** What will be built; everything that the bytes depend on is known. */
export interface KernelPlan {
  readonly key: string;
  readonly package: PackageFacts;
  readonly agent: Uint8Array;
  readonly agentSha256: string;
}

interface BuildOptions {
  readonly signal: AbortSignal;
  readonly onPhase: (name: string) => void;
}

/** Kernel sets from Debian's signed cloud kernel package. The same package, agent and builder give the same bytes on any host (I9). */
export class DebianKernelBuilder {
  readonly #apt: Apt;
  readonly #agentPath: string;
  /** Every create asks; the agent is read again when it looks different. */
  #digest: { readonly value: string; readonly agent: FileFingerprint } | null = null;

  constructor(parts: { readonly apt: Apt; readonly agentPath: string }) {
    this.#apt = parts.apt;
    this.#agentPath = parts.agentPath;
  }

  /** Changes with the agent and the builder. Throws HOST_TOOL_MISSING where the agent is not built. */
  async builderDigest(): Promise<string> {
    const agent = fileFingerprintNow(this.#agentPath);
    if (agent !== null && this.#digest !== null && sameFingerprint(this.#digest.agent, agent)) return this.#digest.value;
    const value = kernelBuilderDigest({ agentSha256: sha256(await this.#readAgent()), builderVersion: BUILDER_VERSION });
    this.#digest = agent === null ? null : { value, agent };
    return value;
  }

  /** Looks up which package it would be: fetches nothing but, where they are missing, apt's lists. Throws PACKAGE_NOT_FOUND, PACKAGE_FETCH_FAILED, KERNEL_INVALID. */
  async plan(options: { signal: AbortSignal }): Promise<KernelPlan> {
    await using session = await this.#apt.open(options);
    return await this.#plan(session, options.signal);
  }

  /** Fetches the package and fills `directory` with the set, modes included. Throws as plan, and DISK_FULL. */
  async build(plan: KernelPlan, directory: string, options: BuildOptions): Promise<KernelManifest> {
    const { signal } = options;
    const kernel = await this.#fetch(plan, options);
    options.onPhase("unpack kernel");
    const vmlinux = unpackKernel(kernel);
    const modules = await readModules(kernel, { signal });
    const plannedModules = planModules(modules, kernel);
    options.onPhase("build initramfs");
    const initramfs = buildInitramfs({ agent: plan.agent, modules, plan: plannedModules });
    await writeFile(join(directory, "vmlinux"), vmlinux, { signal });
    await writeFile(join(directory, "initramfs"), initramfs, { signal });
    options.onPhase("build modules image");
    const image = await buildModulesImage({
      directory,
      files: indexedModuleFiles(kernel, modules),
      packageSha256: plan.package.sha256,
      signal,
    });
    const { name, version, architecture, sha256: packageSha256 } = plan.package;
    const manifest: KernelManifest = {
      ...{ key: plan.key, name: DEBIAN_CLOUD, architecture, release: kernel.release },
      package: { name, version, sha256: packageSha256 },
      ...{ agentSha256: plan.agentSha256, builderVersion: BUILDER_VERSION },
      files: { vmlinux: measure(vmlinux), initramfs: measure(initramfs), "modules.ext4": image },
      modules: plannedModules,
    };
    await writeFile(join(directory, KERNEL_MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`);
    for (const file of [...KERNEL_FILES, KERNEL_MANIFEST]) await chmod(join(directory, file), 0o444);
    await chmod(directory, 0o755);
    return manifest;
  }

  async #plan(session: AptSession, signal: AbortSignal): Promise<KernelPlan> {
    const meta = META_PACKAGES[session.architecture];
    if (meta === undefined) {
      throw new KilnError("KERNEL_INVALID", `kernels of the architecture ${session.architecture} are not supported`, {
        object: session.architecture,
        hint: "use an amd64 host",
      });
    }
    const agent = await this.#readAgent();
    const { depends } = await session.describe({ name: meta, version: null }, { signal });
    const [, name, version] = depends.map((one) => VERSIONED.exec(one)).find((match) => match !== null) ?? [];
    if (name === undefined || version === undefined)
      throw new KilnError("KERNEL_INVALID", `the package ${meta} names no kernel`, { object: meta });
    const facts = await session.describe({ name, version }, { signal });
    const agentSha256 = sha256(agent);
    const inputs = {
      packageName: name,
      packageVersion: facts.version,
      packageSha256: facts.sha256,
      agentSha256,
      builderVersion: BUILDER_VERSION,
    };
    return { key: kernelKey(inputs), package: facts, agent, agentSha256 };
  }

  async #fetch(plan: KernelPlan, options: BuildOptions): Promise<KernelPackage> {
    const { signal } = options;
    options.onPhase("fetch kernel");
    await using session = await this.#apt.open({ signal });
    const [downloaded] = await session.download([plan.package], { signal });
    if (downloaded === undefined) throw new KilnError("PACKAGE_FETCH_FAILED", `the package ${plan.package.name} was not fetched`);
    return await readDebTar(downloaded.path, (tar) => readKernelPackage(tar, plan.package.name), { signal });
  }

  async #readAgent(): Promise<Uint8Array> {
    try {
      return await readFile(this.#agentPath);
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
      throw new KilnError("HOST_TOOL_MISSING", `the guest agent ${this.#agentPath} is not built`, {
        cause: error,
        hint: "run `./kiln ps`, which builds it",
      });
    }
  }
}

const BUILDER_VERSION = `${KERNEL_BUILDER_VERSION}.${WRITER_VERSION}`;

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

const measure = (bytes: Uint8Array): { sha256: string; size: number } => ({ sha256: sha256(bytes), size: bytes.length });

const unpackKernel = (kernel: KernelPackage): Uint8Array => {
  try {
    const vmlinux = extractVmlinux(kernel.bzImage);
    pvhEntry(vmlinux);
    return vmlinux;
  } catch (error) {
    if (!(error instanceof KernelFormatError)) throw error;
    throw new KilnError("KERNEL_INVALID", `the kernel ${kernel.release} cannot be used: ${error.message}`, {
      cause: error,
      object: kernel.release,
    });
  }
};

/** An ext4 to be mounted on /lib/modules; a function of the package alone. */
const buildModulesImage = async (options: {
  directory: string;
  files: ReadonlyMap<string, Uint8Array>;
  packageSha256: string;
  signal: AbortSignal;
}): Promise<{ sha256: string; size: number }> => {
  const tar = join(options.directory, "modules.tar");
  const target = join(options.directory, "modules.ext4");
  const diffId = await writeHashed(tar, writeModulesTar(options.files), options.signal);
  const key = sha256(new TextEncoder().encode(`kiln.modules ${options.packageSha256} ${BUILDER_VERSION}`));
  const built = await buildRootfs({ layers: [{ path: tar, mediaType: "tar", diffId }], target, key }, { signal: options.signal });
  await rm(tar);
  return { sha256: built.digest.slice("sha256:".length), size: built.sizeBytes };
};

const writeHashed = async (path: string, chunks: Iterable<Uint8Array>, signal: AbortSignal): Promise<string> => {
  await using file = await open(path, "wx", 0o600);
  const hash: Hash = createHash("sha256");
  for (const chunk of chunks) {
    signal.throwIfAborted();
    hash.update(chunk);
    await file.appendFile(chunk);
  }
  return `sha256:${hash.digest("hex")}`;
};
