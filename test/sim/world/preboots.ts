import { KilnError } from "@kiln/protocol";
import { publishDirectoryOn } from "@kiln/std/node";
import type { OpenPreboot, PrebootFiles, PrebootRecord } from "../../../packages/daemon/src/snapshots/preboot.ts";
import { blocksOf, orDiskFull, sha256Of } from "./content.ts";
import type { HomeFiles } from "./home-files.ts";
import { HOME } from "./paths.ts";

type Saved = Pick<PrebootRecord, "map" | "state" | "diskBytes">;

const hexOf = (bytes: Uint8Array): string => sha256Of(bytes).slice("sha256:".length);
/** No descriptor: a fake VMM does not look at its memory. */
const MEMORY = -1;

/** Pre-boot snapshots on the simulated disk. */
export class SimPreboots implements PrebootFiles {
  readonly #home: HomeFiles;

  constructor(home: HomeFiles) {
    this.#home = home;
  }

  path(key: string): string {
    return `${HOME.preboots}/${key}`;
  }

  async build(key: string, steps: Parameters<PrebootFiles["build"]>[1], { signal }: { signal: AbortSignal }): Promise<Saved> {
    const saved: Saved[] = [];
    this.removeNow(key);
    await orDiskFull(key, () =>
      publishDirectoryOn(this.#home, {
        ...{ target: this.path(key), stagingDir: HOME.staging, ifExists: "fail", signal },
        write: async (directory) => void saved.push(await this.#write(directory, steps)),
      }),
    );
    const [done] = saved;
    if (done === undefined) throw new KilnError("INTERNAL", `the snapshot ${key} was published without having been written`);
    return done;
  }

  async #write(directory: string, steps: Parameters<PrebootFiles["build"]>[1]): Promise<Saved> {
    const { files } = this.#home;
    const vmDirectory = `${HOME.staging}/preboot-${this.#home.stagingPath("").slice(1)}`;
    await using undo = new AsyncDisposableStack();
    undo.defer(() => files.removeTree(vmDirectory));
    await files.makeDirectory(vmDirectory);
    const target = { memory: `${directory}/memory`, state: `${directory}/state` };
    for (const path of [target.memory, target.state]) await files.create(path);
    await steps.save(target, vmDirectory);
    const [memory, state] = [await files.read(target.memory), await files.read(target.state)];
    await steps.verify({ memory: MEMORY, state: target.state }, vmDirectory);
    return {
      map: { bytes: memory.length, extents: [[0, memory.length]], sha256: hexOf(memory) },
      state: { size: state.length, sha256: hexOf(state) },
      diskBytes: blocksOf(memory.length) + blocksOf(state.length),
    };
  }

  async open(record: PrebootRecord): Promise<OpenPreboot> {
    const { key, map, state } = record;
    const paths = { memory: `${this.path(key)}/memory`, state: `${this.path(key)}/state` };
    const found = await this.#home.readIfThere(paths.state);
    const memory = await this.#home.readIfThere(paths.memory);
    if (found === null || memory === null || hexOf(found) !== state.sha256 || hexOf(memory) !== map.sha256)
      throw new KilnError("ARTIFACT_DAMAGED", `the pre-boot snapshot ${key} is missing or damaged`, { object: key });
    return { memory: MEMORY, state: paths.state, record, [Symbol.dispose]: () => undefined };
  }

  removeNow(key: string): void {
    this.#home.disk.removeTree(this.path(key));
  }
}
