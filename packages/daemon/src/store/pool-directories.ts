import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { PoolDirectories } from "../vms/pool.port.ts";
import type { DiskWriter } from "./vm-disks.ts";

/** The least that an ext4 with a journal takes; it is sparse. */
const SCRATCH_BYTES = 64 * 2 ** 20;

/** `<home>/pool/<entry>/`. */
export class HomePool implements PoolDirectories {
  readonly #root: string;
  readonly #write: DiskWriter;
  readonly #randomUuid: () => string;

  constructor(options: { root: string; write: DiskWriter; randomUuid: () => string }) {
    this.#root = options.root;
    this.#write = options.write;
    this.#randomUuid = options.randomUuid;
  }

  async make(entry: string, { signal }: { signal: AbortSignal }): Promise<{ directory: string; scratchDisk: string }> {
    const directory = join(this.#root, entry);
    await using undo = new AsyncDisposableStack();
    await mkdir(directory, { mode: 0o700 });
    undo.defer(() => this.remove(directory));
    const scratchDisk = join(directory, "scratch.ext4");
    await this.#write({ path: scratchDisk, sizeBytes: SCRATCH_BYTES, uuid: this.#randomUuid() }, { signal });
    undo.move();
    return { directory, scratchDisk };
  }

  async remove(directory: string): Promise<void> {
    await rm(directory, { recursive: true, force: true });
  }

  async list(): Promise<readonly string[]> {
    return (await readdir(this.#root)).map((name) => join(this.#root, name));
  }
}
