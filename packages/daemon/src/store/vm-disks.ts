import { rmSync, symlinkSync } from "node:fs";
import { chmod, mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { KilnError, type VmId } from "@kiln/protocol";
import { VMM_LINK } from "../vms/driver.port.ts";
import type { VmDisks } from "../vms/disks.port.ts";
import { isOfLog } from "./vm-log.ts";

export interface DiskWriter {
  /** Writes an empty ext4 with a journal to a new file at `path`. */
  (disk: { path: string; sizeBytes: number; uuid: string }, options: { signal: AbortSignal }): Promise<void>;
}

export interface DiskPublisher {
  /** Calls `write` with a staging path, makes what it wrote durable, and gives it its final name; a name that exists is kept. */
  (target: string, write: (stagingPath: string) => Promise<void>): Promise<void>;
}

/** `<home>/vms/<id>/`, mode 0700, one for each VM. */
export class DirectoryVmDisks implements VmDisks {
  readonly #root: string;
  readonly #write: DiskWriter;
  readonly #publish: DiskPublisher;
  readonly #random: () => string;

  constructor(options: { root: string; write: DiskWriter; publish: DiskPublisher; randomUuid: () => string }) {
    this.#root = options.root;
    this.#write = options.write;
    this.#publish = options.publish;
    this.#random = options.randomUuid;
  }

  directory(id: VmId): string {
    return join(this.#root, id);
  }

  writableDiskPath(id: VmId): string {
    return join(this.directory(id), "writable.ext4");
  }

  async prepare(id: VmId, options: { diskBytes: number; signal: AbortSignal }): Promise<void> {
    const directory = this.directory(id);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await chmod(directory, 0o700);
    const target = this.writableDiskPath(id);
    const size = await sizeOf(target);
    if (size === options.diskBytes) return;
    if (size !== null) {
      throw new KilnError("ARTIFACT_DAMAGED", `the writable disk of the VM ${id} has ${size} bytes instead of ${options.diskBytes}`, {
        ...{ object: id, hint: "remove the VM with `kiln rm -f` and create it again" },
      });
    }
    // it has booted, and so it had one
    if ((await readdir(directory)).some(isOfLog)) {
      throw new KilnError("ARTIFACT_DAMAGED", `the writable disk of the VM ${id} is gone, and with it what the VM had written`, {
        ...{ object: id, hint: "remove the VM with `kiln rm` and create it again" },
      });
    }
    const { signal, diskBytes } = options;
    await this.#publish(target, (path) => this.#write({ path, sizeBytes: diskBytes, uuid: this.#random() }, { signal }));
  }

  linkVmmNow(id: VmId, directory: string): void {
    const link = join(this.directory(id), VMM_LINK);
    rmSync(link, { force: true });
    symlinkSync(directory, link);
  }

  async remove(id: VmId): Promise<void> {
    await rm(this.directory(id), { recursive: true, force: true });
  }

  async list(): Promise<readonly string[]> {
    return readdir(this.#root);
  }
}

const sizeOf = async (path: string): Promise<number | null> => {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
};
