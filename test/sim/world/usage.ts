import type { HomeUsage, Measured } from "../../../packages/daemon/src/operations/usage.port.ts";
import { blocksOf } from "./content.ts";
import type { HomeFiles } from "./home-files.ts";
import { HOME } from "./paths.ts";

/** What lies in the simulated home. */
export class SimUsage implements HomeUsage {
  readonly #home: HomeFiles;

  constructor(home: HomeFiles) {
    this.#home = home;
  }

  content(): ReturnType<HomeUsage["content"]> {
    return this.#measureIn(`${HOME.content}/sha256`, (name) => ({ digest: `sha256:${name}` }));
  }

  rootfs(): ReturnType<HomeUsage["rootfs"]> {
    return this.#measureIn(HOME.rootfs, (name) => ({ key: name.replace(/\.ext4$/, "") }));
  }

  kernels(): ReturnType<HomeUsage["kernels"]> {
    return this.#measureIn(HOME.kernels, (name) => ({ key: name }));
  }

  preboots(): ReturnType<HomeUsage["preboots"]> {
    return this.#measureIn(HOME.preboots, (name) => ({ key: name }));
  }

  vms(): ReturnType<HomeUsage["vms"]> {
    return this.#measureIn(HOME.vms, (name) => ({ id: name }));
  }

  async other(): ReturnType<HomeUsage["other"]> {
    return [];
  }

  async staging(): Promise<readonly string[]> {
    return (await this.#home.entries(HOME.staging)).map((name) => `${HOME.staging}/${name}`);
  }

  async existing(paths: readonly string[]): Promise<readonly string[]> {
    return paths.filter((path) => this.#home.disk.peek(path) !== null || this.#home.disk.list(path).length > 0);
  }

  async freeBytes(): Promise<number> {
    return this.#home.disk.room;
  }

  async #measureIn<Extra>(directory: string, describe: (name: string) => Extra): Promise<(Measured & Extra)[]> {
    const { disk } = this.#home;
    return (await this.#home.entries(directory)).map((name) => {
      const path = `${directory}/${name}`;
      const sizes = [path, ...disk.list(path)].map((file) => disk.info(file)?.size ?? 0);
      const sum = (measure: (size: number) => number): number => sizes.reduce((total, size) => total + measure(size), 0);
      return { path, bytes: sum((size) => size), diskBytes: sum(blocksOf), ...describe(name) };
    });
  }
}
