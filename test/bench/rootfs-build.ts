import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, existsSync } from "node:fs";
import { mkdir, open, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip } from "node:zlib";
import { publishBytes, publishFile } from "@kiln/std/node";
import { systemClock } from "@kiln/std";
import { ContentStore } from "../../packages/daemon/src/content/content-store.ts";
import { DebImageSource } from "../../packages/daemon/src/content/deb-image.ts";
import { buildRootfs } from "../../packages/daemon/src/content/rootfs/index.ts";
import { Apt } from "../../packages/daemon/src/host/apt.ts";
import { guestPlatform } from "../../packages/daemon/src/images/host-platform.ts";
import { CACHE } from "./home.ts";
import { alternate, compare, type Figure, type Samples, timed } from "./measure.ts";

/** A Debian with Python, Node and git, through the product's own package source. */
const REFERENCE = "deb:python3,nodejs,git,build-essential,+essential";
const RUNS = 5;
const KEY = "b".repeat(64);
const NONE: Samples = { ms: [], failures: 1 };

interface Layer {
  readonly path: string;
  readonly diffId: string;
}

export const benchRootfsBuild = async (): Promise<Figure> => {
  const layers = await prepareLayers();
  const bytes = await totalBytes(layers);
  const staging = join(CACHE, "staging");
  const [ours, floor] = [join(staging, "bench.ext4"), join(staging, "bench.bytes")];
  const runs = { kiln: () => timed(() => build(layers, ours)), floor: () => timed(() => inflateHashWrite(layers, floor)) };
  const { kiln = NONE, floor: least = NONE } = await alternate(RUNS, runs);
  await rm(ours, { force: true });
  await rm(floor, { force: true });
  const details = { reference: REFERENCE, layers: layers.length, "unpacked MB": Math.round(bytes / 1e6) };
  return compare({ name: "rootfs.build", ours: kiln, theirs: { floor: least }, details });
};

const build = async (layers: readonly Layer[], target: string): Promise<void> => {
  await rm(target, { force: true });
  const sources = layers.map((layer) => ({ ...layer, mediaType: "tar+gzip" as const }));
  await buildRootfs({ layers: sources, target, key: KEY }, { signal: new AbortController().signal });
};

/** The least anyone can do: inflate, hash packed and unpacked bytes, write them once in order, fsync. */
const inflateHashWrite = async (layers: readonly Layer[], target: string): Promise<void> => {
  await rm(target, { force: true });
  await using file = await open(target, "w");
  for (const layer of layers) {
    const [packed, unpacked] = [createHash("sha256"), createHash("sha256")];
    const source = createReadStream(layer.path, { highWaterMark: 1 << 20 }).on("data", (chunk) => packed.update(chunk));
    for await (const chunk of source.pipe(createGunzip({ chunkSize: 1 << 18 }))) {
      unpacked.update(chunk as Uint8Array);
      await file.write(chunk as Uint8Array);
    }
    packed.digest();
    if (`sha256:${unpacked.digest("hex")}` !== layer.diffId) throw new Error(`${layer.path} is damaged; remove ${CACHE}`);
  }
  await file.sync();
};

/** The image's layers as gzip, as a registry would serve them; kept between runs. */
const prepareLayers = async (): Promise<readonly Layer[]> => {
  const directory = join(CACHE, "layers");
  const staging = join(CACHE, "staging");
  await mkdir(directory, { recursive: true });
  await mkdir(staging, { recursive: true });
  const list = join(directory, `${createHash("sha256").update(REFERENCE).digest("hex").slice(0, 16)}.json`);
  if (existsSync(list)) return JSON.parse(await readFile(list, "utf8")) as Layer[];
  const content = new ContentStore({ directory: join(CACHE, "content"), stagingDir: staging });
  const source = new DebImageSource({
    apt: new Apt({ stagingDir: staging, clock: systemClock }),
    content,
    platform: guestPlatform(process.arch),
  });
  const lease = { hold: () => undefined, linger: () => undefined, [Symbol.dispose]: () => undefined };
  const quiet = { lease, onPhase: () => undefined, onProgress: () => undefined };
  const { image } = await source.fetch(REFERENCE, { signal: new AbortController().signal, ...quiet });
  const layers: Layer[] = [];
  for (const { digest, diffId } of image.layers) {
    const path = join(directory, `${diffId.slice(7)}.gz`);
    const write = (_file: unknown, staged: string): Promise<void> =>
      pipeline(createReadStream(content.path(digest)), createGzip(), createWriteStream(staged, { flags: "r+" }));
    await publishFile({ target: path, stagingDir: staging, ifExists: "keep", write });
    layers.push({ path, diffId });
  }
  await publishBytes({ target: list, stagingDir: staging, bytes: JSON.stringify(layers), ifExists: "replace" });
  return layers;
};

const totalBytes = async (layers: readonly Layer[]): Promise<number> => {
  let total = 0;
  for (const layer of layers) {
    await stat(layer.path);
    for await (const chunk of createReadStream(layer.path).pipe(createGunzip())) total += (chunk as Uint8Array).length;
  }
  return total;
};
