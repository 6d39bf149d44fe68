import { KilnError, type VmId } from "@kiln/protocol";
import { publishFileOn } from "@kiln/std/node";
import type { VmDisks } from "../../../packages/daemon/src/vms/disks.port.ts";
import { VMM_LINK } from "../../../packages/daemon/src/vms/driver.port.ts";
import type { PoolDirectories } from "../../../packages/daemon/src/vms/pool.port.ts";
import { selfOf } from "../disk.ts";
import { orDiskFull } from "./content.ts";
import type { HomeFiles, OpenFile } from "./home-files.ts";
import { HOME } from "./paths.ts";
import { isOfLog } from "./vm-log.ts";

const diskText = (id: string, diskBytes: number): string => `the disk of ${id}, ${diskBytes} bytes`;

/** Directories of VMs on the simulated disk, by the rules of the real ones. */
export class SimVmDisks implements VmDisks {
  readonly #home: HomeFiles;

  constructor(home: HomeFiles) {
    this.#home = home;
  }

  directory(id: VmId): string {
    return `${HOME.vms}/${id}`;
  }

  writableDiskPath(id: VmId): string {
    return `${this.directory(id)}/writable.ext4`;
  }

  async prepare(id: VmId, { diskBytes, signal }: { diskBytes: number; signal: AbortSignal }): Promise<void> {
    const directory = this.directory(id);
    if ((await this.#home.kindAt(directory)) === null) await orDiskFull(id, () => this.#home.makeDirectory(directory));
    const target = this.writableDiskPath(id);
    const found = await this.#home.readIfThere(target);
    const text = diskText(id, diskBytes);
    if (found !== null && new TextDecoder().decode(found) === text) return;
    const isGone = found === null && (await this.#home.entries(directory)).some(isOfLog);
    if (found !== null || isGone)
      throw new KilnError("ARTIFACT_DAMAGED", `the writable disk of the VM ${id} is gone or another`, { object: id });
    await orDiskFull(id, () =>
      publishFileOn<OpenFile>(this.#home, {
        ...{ target, stagingDir: HOME.staging, ifExists: "keep", signal },
        write: (_file, path) => this.#home.write(path, new TextEncoder().encode(text)),
      }),
    );
  }

  linkVmmNow(id: VmId, directory: string): void {
    const link = `${this.directory(id)}/${VMM_LINK}`;
    this.#home.disk.removeTree(link);
    this.#home.disk.create(link);
    this.#home.disk.append(link, new TextEncoder().encode(directory));
  }

  remove(id: VmId): Promise<void> {
    return this.#home.files.removeTree(this.directory(id));
  }

  list(): Promise<readonly string[]> {
    return this.#home.entries(HOME.vms);
  }
}

/** Directories of guests that wait for their VM. */
export class SimPoolDirectories implements PoolDirectories {
  readonly #home: HomeFiles;

  constructor(home: HomeFiles) {
    this.#home = home;
  }

  async make(entry: string): Promise<{ directory: string; scratchDisk: string }> {
    const directory = `${HOME.pool}/${entry}`;
    const scratchDisk = `${directory}/scratch.ext4`;
    await using undo = new AsyncDisposableStack();
    await orDiskFull(entry, async () => {
      await this.#home.makeDirectory(directory);
      undo.defer(() => this.remove(directory));
      await this.#home.files.create(scratchDisk);
    });
    undo.move();
    return { directory, scratchDisk };
  }

  remove(directory: string): Promise<void> {
    return this.#home.files.removeTree(directory);
  }

  async list(): Promise<readonly string[]> {
    return (await this.#home.entries(HOME.pool)).map((name) => `${HOME.pool}/${name}`);
  }
}

/** Directories that are always there. */
export const HOME_DIRECTORIES: readonly string[] = [HOME.vms, HOME.pool, HOME.staging].map(selfOf);
