import { lstatSync } from "node:fs";
import { lstat, readdir, statfs } from "node:fs/promises";
import { join } from "node:path";
import type { HomePaths } from "./home.ts";

const BLOCK_BYTES = 512;

interface Measured {
  readonly path: string;
  readonly bytes: number;
  readonly diskBytes: number;
}

/** A file, or a directory with all below it; what vanishes meanwhile counts nothing. */
const measure = async (path: string): Promise<Measured> => {
  try {
    const stat = await lstat(path);
    const own = { bytes: stat.isDirectory() ? 0 : stat.size, diskBytes: stat.blocks * BLOCK_BYTES };
    if (!stat.isDirectory()) return { path, ...own };
    const inner = await Promise.all((await readdir(path)).map((name) => measure(join(path, name))));
    return {
      path,
      bytes: inner.reduce((sum, one) => sum + one.bytes, own.bytes),
      diskBytes: inner.reduce((sum, one) => sum + one.diskBytes, own.diskBytes),
    };
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return { path, bytes: 0, diskBytes: 0 };
    throw error;
  }
};

const isThere = async (path: string): Promise<boolean> => {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return false;
    throw error;
  }
};

/** Of a directory without what is in it. */
const ownBlocks = async (path: string): Promise<number> => {
  try {
    return (await lstat(path)).blocks * BLOCK_BYTES;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return 0;
    throw error;
  }
};

const namesIn = async (directory: string): Promise<string[]> => {
  try {
    return (await readdir(directory)).sort();
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  }
};

const measureIn = async <Extra>(directory: string, describe: (name: string) => Extra): Promise<(Measured & Extra)[]> =>
  Promise.all((await namesIn(directory)).map(async (name) => ({ ...(await measure(join(directory, name))), ...describe(name) })));

/** What lies in a home, by the layout of store/home.ts. */
export class DirectoryUsage {
  readonly #paths: HomePaths;

  constructor(paths: HomePaths) {
    this.#paths = paths;
  }

  content(): Promise<(Measured & { digest: string })[]> {
    return measureIn(join(this.#paths.content, "sha256"), (name) => ({ digest: `sha256:${name}` }));
  }

  /** One that is a further name of a blob takes nothing of its own. */
  async rootfs(): Promise<(Measured & { key: string })[]> {
    const found = await measureIn(this.#paths.rootfs, (name) => ({ key: name.replace(/\.ext4$/, "") }));
    const [files, blobs] = await Promise.all([this.#linked(this.#paths.rootfs), this.#linked(join(this.#paths.content, "sha256"))]);
    const inodes = new Set(blobs.values());
    return found.map((file) => {
      const inode = files.get(file.path);
      return inode !== undefined && inodes.has(inode) ? { ...file, bytes: 0, diskBytes: 0 } : file;
    });
  }

  /** The files of a directory that have further names: the inode of each path. */
  async #linked(directory: string): Promise<ReadonlyMap<string, bigint>> {
    const inodes = new Map<string, bigint>();
    for (const name of await namesIn(directory)) {
      const path = join(directory, name);
      const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
      if (stat !== undefined && stat.nlink > 1n && stat.isFile()) inodes.set(path, stat.ino);
    }
    return inodes;
  }

  kernels(): Promise<(Measured & { key: string })[]> {
    return measureIn(this.#paths.kernels, (name) => ({ key: name }));
  }

  preboots(): Promise<(Measured & { key: string })[]> {
    return measureIn(this.#paths.preboots, (name) => ({ key: name }));
  }

  vms(): Promise<(Measured & { id: string })[]> {
    return measureIn(this.#paths.vms, (name) => ({ id: name }));
  }

  /** Each other entry of the home, and the blocks of the directories themselves. */
  async other(): Promise<(Measured & { name: string })[]> {
    const { home, content, rootfs, kernels, preboots, vms } = this.#paths;
    const counted = [content, rootfs, kernels, preboots, vms];
    const entries = (await namesIn(home)).filter((name) => !counted.includes(join(home, name)));
    const others = await Promise.all(entries.map(async (name) => ({ ...(await measure(join(home, name))), name })));
    const directories = await Promise.all([home, ...counted, join(content, "sha256")].map(ownBlocks));
    const diskBytes = directories.reduce((sum, one) => sum + one, 0);
    return [...others, { path: home, bytes: 0, diskBytes, name: "directories" }];
  }

  async existing(paths: readonly string[]): Promise<string[]> {
    const found = await Promise.all(paths.map(async (path) => ((await isThere(path)) ? [path] : [])));
    return found.flat();
  }

  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.#paths.home);
    return bavail * bsize;
  }

  async staging(): Promise<string[]> {
    return (await namesIn(this.#paths.staging)).map((name) => join(this.#paths.staging, name));
  }
}
