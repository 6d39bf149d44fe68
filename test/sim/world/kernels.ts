import { KilnError } from "@kiln/protocol";
import type { Clock, FileFingerprint } from "@kiln/std";
import { publishDirectoryOn, sameFingerprint } from "@kiln/std/node";
import type { KernelRecord } from "../../../packages/daemon/src/kernels/records.port.ts";
import type { BootFiles, KernelSets } from "../../../packages/daemon/src/pipeline/artifacts.port.ts";
import { orDiskFull, sha256Of } from "./content.ts";
import { fingerprint, type HomeFiles } from "./home-files.ts";
import { HOME } from "./paths.ts";

const FILES = ["initramfs", "manifest.json", "modules.ext4", "vmlinux"] as const;
const bytesOf = (name: string, builder: string): Uint8Array => new TextEncoder().encode(`${name} of ${builder}`);

/** Kernel sets on the simulated disk. `builder` is what stands for the agent and the builder: another one makes another set. */
export class SimKernels implements KernelSets {
  readonly #home: HomeFiles;
  readonly #clock: Clock;
  readonly #builder: () => string;

  constructor(home: HomeFiles, { clock, builder }: { clock: Clock; builder: () => string }) {
    this.#home = home;
    this.#clock = clock;
    this.#builder = builder;
  }

  path(key: string): string {
    return `${HOME.kernels}/${key}`;
  }

  async builderDigest(): Promise<string> {
    return this.#builder();
  }

  async build({ signal }: { signal: AbortSignal }): Promise<KernelRecord> {
    const builder = this.#builder();
    const key = keyOf(builder);
    if (!(await this.#isWhole(key, builder))) {
      await this.remove(key);
      await orDiskFull(key, () =>
        publishDirectoryOn(this.#home, {
          ...{ target: this.path(key), stagingDir: HOME.staging, ifExists: "keep", signal },
          write: async (directory) => {
            for (const name of FILES) {
              await this.#home.files.create(`${directory}/${name}`);
              await this.#home.write(`${directory}/${name}`, bytesOf(name, builder));
            }
          },
        }),
      );
    }
    if (!(await this.#isWhole(key, builder))) {
      await this.remove(key);
      throw new KilnError("ARTIFACT_DAMAGED", `the kernel ${key} was damaged while it was built`, { object: key });
    }
    const fingerprints = this.#fingerprints(key);
    const sizeBytes = FILES.reduce((sum, name) => sum + bytesOf(name, builder).length, 0);
    const createdAt = new Date(this.#clock.now()).toISOString();
    return {
      ...{ key, name: "debian-cloud", version: "1", source: "deb:linux=1", builderDigest: builder },
      ...{ digest: sha256Of(bytesOf("manifest.json", builder)), sizeBytes, createdAt, fingerprints },
    };
  }

  async isWhole({ key, builderDigest, fingerprints = {} }: KernelRecord): Promise<boolean> {
    const now = this.#fingerprints(key);
    const isUntouched = (name: string): boolean => {
      const [one, other] = [fingerprints[name], now[name]];
      return one !== undefined && other !== undefined && sameFingerprint(one, other);
    };
    return FILES.every(isUntouched) || this.#isWhole(key, builderDigest);
  }

  #fingerprints(key: string): Readonly<Record<string, FileFingerprint>> {
    const found = FILES.flatMap((name): [string, FileFingerprint][] => {
      const info = this.#home.disk.info(`${this.path(key)}/${name}`);
      return info === null ? [] : [[name, fingerprint(info)]];
    });
    return Object.fromEntries(found);
  }

  async #isWhole(key: string, builder: string): Promise<boolean> {
    for (const name of FILES) {
      const found = await this.#home.readIfThere(`${this.path(key)}/${name}`);
      if (found === null || sha256Of(found) !== sha256Of(bytesOf(name, builder))) return false;
    }
    return true;
  }

  async remove(key: string): Promise<void> {
    const aside = this.#home.stagingPath(HOME.staging);
    if ((await this.#home.kindAt(this.path(key))) === null) return;
    await this.#home.files.moveTree(this.path(key), aside);
    await this.#home.files.removeTree(aside);
  }

  async open(key: string): Promise<BootFiles> {
    const manifest = await this.#home.readIfThere(`${this.path(key)}/manifest.json`);
    if (manifest === null) throw new KilnError("ARTIFACT_DAMAGED", `the kernel ${key} is not there`, { object: key });
    const at = (name: (typeof FILES)[number]): string => `${this.path(key)}/${name}`;
    return {
      ...{ vmlinux: at("vmlinux"), initramfs: at("initramfs"), modulesImage: at("modules.ext4") },
      ...{ digest: sha256Of(manifest), setupModules: [], networkModules: [] },
    };
  }
}

const keyOf = (builder: string): string => sha256Of(new TextEncoder().encode(`kernel ${builder}`)).slice("sha256:".length);
