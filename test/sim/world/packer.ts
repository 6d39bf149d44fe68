import type { ContentShelf } from "../../../packages/daemon/src/images/ports.ts";
import type { UpperLayers, WrittenDisk } from "../../../packages/daemon/src/images/promotion.port.ts";
import type { HomeFiles } from "./home-files.ts";

/** Layers of what simulated VMs have written: of each disk that was ever made, its name. The same disk gives the same layer. */
export class SimPacker implements UpperLayers {
  readonly #home: HomeFiles;
  readonly #content: Pick<ContentShelf, "ingestUnnamed">;

  constructor(home: HomeFiles, content: Pick<ContentShelf, "ingestUnnamed">) {
    this.#home = home;
    this.#content = content;
  }

  async pack(disk: WrittenDisk, { lease, signal }: Parameters<UpperLayers["pack"]>[1]): ReturnType<UpperLayers["pack"]> {
    const written = await this.#home.readIfThere(disk.path);
    if (written === null) return null;
    const source = async function* (): AsyncGenerator<Uint8Array> {
      yield written;
    };
    const { digest, size } = await this.#content.ingestUnnamed(source(), { lease, signal });
    return { digest, size, diffId: digest };
  }
}
