/** Writes a generated stack of layers as an OCI layout. */
import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { runTool } from "@kiln/std/node";
import { writeGnuTar, type GnuTarFormat } from "./gnu-tar.ts";
import { asOverlay } from "./overlay.ts";
import { spell, type Layer, type LayerEntry, type Stack, type Writer } from "./stack.ts";
import type { Layout } from "./unpack.ts";

interface Options {
  readonly signal: AbortSignal;
}

const PYTHON_WRITER = join(import.meta.dirname, "write-tar.py");
const MAX_OCTAL_ID = 0o7777777;
const MAX_OCTAL_TIME = 8 ** 11;

/** Old headers hold no long names, no large owners and no time before 1970 or of the far future. */
const fitsUstar = (entry: LayerEntry): boolean =>
  spell(entry).length <= 99 &&
  entry.link.length <= 100 &&
  Math.max(entry.uid, entry.gid) <= MAX_OCTAL_ID &&
  !entry.mtime.startsWith("-") &&
  Number(entry.mtime) < MAX_OCTAL_TIME;

const isGnuTar = (writer: PlannedTar["writer"]): writer is GnuTarFormat => writer.startsWith("tar ");

interface PlannedTar extends Omit<Layer, "writer"> {
  readonly writer: Writer | GnuTarFormat;
  readonly target: string;
}

/** All layers of one image by one process: starting it is most of what it takes. */
const writePythonTars = async (layers: readonly PlannedTar[], options: Options): Promise<void> => {
  const input = layers.map(({ writer, target, entries }) => ({
    format: writer.replace("python ", ""),
    target,
    entries: entries.map((entry) => ({
      ...entry,
      path: spell(entry),
      content: Buffer.from(entry.content, "latin1").toString("base64"),
    })),
  }));
  if (layers.length > 0) await runTool("python3", [PYTHON_WRITER], { ...options, stdin: Buffer.from(JSON.stringify(input)) });
};

const writeGnuTars = async (layers: readonly PlannedTar[], options: Options): Promise<void> => {
  for (const { writer, target, entries } of layers) {
    if (!isGnuTar(writer)) continue;
    const scratch = `${target}.files`;
    await writeGnuTar(entries, { format: writer, scratch, target }, options);
    await rm(scratch, { recursive: true });
  }
};

/** How Kiln gets a layer: the same, as an overlay has it, or with the old header of sparse files, which umoci does not read. */
const forKiln = (layer: PlannedTar): PlannedTar => {
  const target = `${layer.target}.kiln`;
  if (layer.writer === "tar gnu") return { ...layer, target, writer: "tar gnu sparse" };
  if (!layer.overlay || isGnuTar(layer.writer)) return layer;
  return { ...layer, target, entries: asOverlay(layer.entries, { hasXattrs: layer.writer === "python pax" }) };
};

/** The stack's layers as they are written. */
const planTars = (stack: Stack, scratch: string): { ours: readonly PlannedTar[]; theirs: readonly PlannedTar[] } => {
  const theirs = stack.map((layer, index): PlannedTar => {
    const entries = layer.writer.endsWith("ustar") ? layer.entries.filter(fitsUstar) : layer.entries;
    return { ...layer, entries, target: join(scratch, `layer-${index}.tar`) };
  });
  return { ours: theirs.map(forKiln), theirs };
};

const digestOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** The same image twice. */
export interface GeneratedLayouts {
  /** Some layers say it in other words. */
  readonly ours: Layout;
  readonly theirs: Layout;
}

/** A blob store of an OCI layout. */
class Blobs {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async put(bytes: Uint8Array, mediaType: string): Promise<{ mediaType: string; digest: string; size: number }> {
    await writeFile(join(this.#directory, digestOf(bytes)), bytes);
    return { mediaType, digest: `sha256:${digestOf(bytes)}`, size: bytes.length };
  }

  async putImage(layers: readonly PlannedTar[], tag: string): Promise<object> {
    const json = (value: unknown, type: string) =>
      this.put(Buffer.from(JSON.stringify(value)), `application/vnd.oci.image.${type}.v1+json`);
    const [descriptors, diffIds]: [object[], string[]] = [[], []];
    for (const { target, gzip } of layers) {
      const tar = await readFile(target);
      diffIds.push(`sha256:${digestOf(tar)}`);
      const type = "application/vnd.oci.image.layer.v1.tar";
      descriptors.push(gzip ? await this.put(gzipSync(tar), `${type}+gzip`) : await this.put(tar, type));
    }
    const rootfs = { type: "layers", diff_ids: diffIds };
    const config = await json({ architecture: "amd64", os: "linux", config: {}, rootfs }, "config");
    const manifest = await json({ schemaVersion: 2, config, layers: descriptors }, "manifest");
    return { ...manifest, annotations: { "org.opencontainers.image.ref.name": tag } };
  }
}

/** Writes `stack` below `scratch`, bottom to top. */
export const writeLayouts = async (stack: Stack, scratch: string, options: Options): Promise<GeneratedLayouts> => {
  const directory = join(scratch, "layout");
  await mkdir(join(directory, "blobs/sha256"), { recursive: true });
  const { ours, theirs } = planTars(stack, scratch);
  const tars = [...new Set([...theirs, ...ours])];
  await writePythonTars(
    tars.filter(({ writer }) => !isGnuTar(writer)),
    options,
  );
  await writeGnuTars(tars, options);
  const blobs = new Blobs(join(directory, "blobs/sha256"));
  const manifests = [await blobs.putImage(theirs, "theirs"), await blobs.putImage(ours, "ours")];
  await writeFile(join(directory, "index.json"), JSON.stringify({ schemaVersion: 2, manifests }));
  await writeFile(join(directory, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  return { ours: { directory, tag: "ours" }, theirs: { directory, tag: "theirs" } };
};
