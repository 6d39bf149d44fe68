/** Writes a generated stack of layers as an OCI layout. */
import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { runTool } from "@kiln/std/node";
import { writeGnuTar, type GnuTarFormat } from "./gnu-tar.ts";
import type { Layer, LayerEntry, Stack } from "./stack.ts";
import type { Layout } from "./unpack.ts";

interface Options {
  readonly signal: AbortSignal;
}

const PYTHON_WRITER = join(import.meta.dirname, "write-tar.py");
const MAX_OCTAL_ID = 0o7777777;

/** Old headers hold no long names, no large owners and no time before 1970. */
const fitsUstar = ({ path, link, uid, gid, mtime }: LayerEntry): boolean =>
  path.length <= 100 && link.length <= 100 && uid <= MAX_OCTAL_ID && gid <= MAX_OCTAL_ID && !mtime.startsWith("-");

const writePythonTar = async (layer: Layer, target: string, options: Options): Promise<void> => {
  const entries = layer.entries.map((entry) => ({ ...entry, content: Buffer.from(entry.content, "latin1").toString("base64") }));
  const input = JSON.stringify({ format: layer.writer.replace("python ", ""), entries });
  const { stdout } = await runTool("python3", [PYTHON_WRITER], { ...options, stdin: Buffer.from(input) });
  await writeFile(target, stdout);
};

const isGnuTar = (writer: Layer["writer"]): writer is GnuTarFormat => writer.startsWith("tar ");

const writeTar = async (layer: Layer, place: { scratch: string; target: string }, options: Options): Promise<void> => {
  const entries = layer.writer.endsWith("ustar") ? layer.entries.filter(fitsUstar) : layer.entries;
  if (isGnuTar(layer.writer)) await writeGnuTar(entries, { format: layer.writer, ...place }, options);
  else await writePythonTar({ ...layer, entries }, place.target, options);
};

const digestOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Writes `stack` below `scratch`, bottom to top, as the image "generated". */
export const writeLayout = async (stack: Stack, scratch: string, options: Options): Promise<Layout> => {
  const directory = join(scratch, "layout");
  const blobs = join(directory, "blobs/sha256");
  await mkdir(blobs, { recursive: true });
  const put = async (bytes: Uint8Array, mediaType: string) => {
    await writeFile(join(blobs, digestOf(bytes)), bytes);
    return { mediaType, digest: `sha256:${digestOf(bytes)}`, size: bytes.length };
  };
  const putJson = (value: unknown, type: string) => put(Buffer.from(JSON.stringify(value)), `application/vnd.oci.image.${type}.v1+json`);
  const [layers, diffIds]: [object[], string[]] = [[], []];
  for (const [index, layer] of stack.entries()) {
    const place = { scratch: join(scratch, `layer-${index}`), target: join(scratch, `layer-${index}.tar`) };
    await writeTar(layer, place, options);
    const tar = await readFile(place.target);
    await rm(place.scratch, { recursive: true, force: true });
    diffIds.push(`sha256:${digestOf(tar)}`);
    const type = "application/vnd.oci.image.layer.v1.tar";
    layers.push(layer.gzip ? await put(gzipSync(tar), `${type}+gzip`) : await put(tar, type));
  }
  const rootfs = { type: "layers", diff_ids: diffIds };
  const config = await putJson({ architecture: "amd64", os: "linux", config: {}, rootfs }, "config");
  const manifest = await putJson({ schemaVersion: 2, config, layers }, "manifest");
  const tag = "generated";
  const index = { schemaVersion: 2, manifests: [{ ...manifest, annotations: { "org.opencontainers.image.ref.name": tag } }] };
  await writeFile(join(directory, "index.json"), JSON.stringify(index));
  await writeFile(join(directory, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  return { directory, tag };
};
