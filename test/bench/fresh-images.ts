import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ImageBlobs } from "../../packages/cli/src/testing/image-files.ts";
import { buildTar, type TarSpec } from "../../packages/formats/src/tar/tar-writer.fixture.ts";
import type { BenchHome } from "./home.ts";

const BUSYBOX = "/bin/busybox";
const MIB = 2 ** 20;

const directory = (path: string): TarSpec => ({ path, type: "directory" });
const random = (path: string, bytes: number): TarSpec => ({ path, content: randomBytes(bytes) });

/** What stands beside busybox in each kind of image: a little, many small files, or a few large ones. Never the same bytes twice. */
const KINDS: Readonly<Record<string, () => TarSpec[]>> = {
  small: () => [directory("etc"), random("etc/salt", 64)],
  wide: () => [
    directory("srv"),
    ...Array.from({ length: 400 }, (_, at) => directory(`srv/${at}`)),
    ...Array.from({ length: 2_000 }, (_, at) => random(`srv/${at % 400}/${at}`, 300)),
  ],
  large: () => [directory("srv"), ...Array.from({ length: 4 }, (_, at) => random(`srv/${at}`, 8 * MIB))],
};
export const IMAGE_KINDS: readonly string[] = Object.keys(KINDS);

export interface FreshImage {
  readonly reference: string;
  readonly rootfs: string;
}

/** Images that no VM has started from: each is made for one start, and goes with all of them. */
export class FreshImages implements AsyncDisposable {
  readonly #home: BenchHome;
  readonly #made: string[] = [];

  constructor(home: BenchHome) {
    this.#home = home;
  }

  /** A new one, whose rootfs is there: nothing of it has been read since it was written. */
  async make(kind: string): Promise<FreshImage> {
    const { kiln, path } = this.#home;
    const layout = await mkdtemp(join(tmpdir(), "kiln-bench-image-"));
    try {
      await writeImage(layout, [directory("bin"), { path: "bin/busybox", content: await readFile(BUSYBOX), mode: 0o755 }, ...fill(kind)]);
      const { reference } = JSON.parse(await this.#home.command("pull", "--json", `oci:${layout}:1`)) as { reference: string };
      this.#made.push(reference);
      const created = await kiln.operations.result(await kiln.vms.create({ image: reference, command: ["true"] }));
      await kiln.operations.result(await kiln.vms.remove(created.result ?? ""));
      const { rootfsKey } = await kiln.images.inspect(reference);
      return { reference, rootfs: join(path, "rootfs", `${rootfsKey}.ext4`) };
    } finally {
      await rm(layout, { recursive: true, force: true });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#made.length > 0) await this.#home.command("rmi", ...this.#made);
  }
}

const fill = (kind: string): readonly TarSpec[] => {
  const make = KINDS[kind];
  if (make === undefined) throw new Error(`there is no image of the kind ${kind}`);
  return make();
};

const writeImage = async (layout: string, entries: readonly TarSpec[]): Promise<void> => {
  const made = new ImageBlobs();
  const tar = buildTar(entries);
  const layer = made.put("application/vnd.oci.image.layer.v1.tar", tar);
  const config = {
    architecture: "amd64",
    os: "linux",
    config: { Env: ["PATH=/bin"] },
    rootfs: { type: "layers", diff_ids: [layer.digest] },
  };
  const manifest = {
    ...{ schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json" },
    config: made.put("application/vnd.oci.image.config.v1+json", JSON.stringify(config)),
    layers: [layer],
  };
  const document = made.put(manifest.mediaType, JSON.stringify(manifest));
  await mkdir(join(layout, "blobs/sha256"), { recursive: true });
  for (const [digest, bytes] of made.blobs) await writeFile(join(layout, "blobs/sha256", digest.slice("sha256:".length)), bytes);
  const named = { ...document, annotations: { "org.opencontainers.image.ref.name": "1" } };
  await writeFile(join(layout, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [named] }));
  await writeFile(join(layout, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
};
