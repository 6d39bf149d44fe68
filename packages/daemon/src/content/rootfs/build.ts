import { createHash } from "node:crypto";
import { read, statSync } from "node:fs";
import { promisify } from "node:util";
import { LayeredImage } from "@kiln/formats/ext4";
import type { ImageSummary, LayerInput } from "@kiln/formats/ext4";
import { FileSink, SinkFailure } from "./file-sink.ts";
import { rootfsIdentity } from "./identity.ts";
import { readLayer } from "./layer-stream.ts";
import type { LayerSource } from "./layer-stream.ts";
import type { BuildJob, BuiltRootfs } from "./messages.ts";

/** Wraps whatever goes wrong while a layer is read, to say which. */
export class LayerFailure extends Error {
  override readonly name = "LayerFailure";
  readonly layer: LayerSource;

  constructor(layer: LayerSource, cause: unknown) {
    super(`reading the layer ${layer.diffId} failed`, { cause });
    this.layer = layer;
  }
}

const HASH_BUFFER_BYTES = 1 << 19;

const readPiece = promisify(read);

/** Hashes a piece while the next is read. */
const hashFile = async (fd: number, sizeBytes: number): Promise<string> => {
  const hash = createHash("sha256");
  const buffers = [Buffer.allocUnsafeSlow(HASH_BUFFER_BYTES), Buffer.allocUnsafeSlow(HASH_BUFFER_BYTES)] as const;
  const readAt = (at: number, turn: 0 | 1) => readPiece(fd, buffers[turn], 0, Math.min(HASH_BUFFER_BYTES, sizeBytes - at), at);
  let turn: 0 | 1 = 0;
  let reading = readAt(0, turn);
  for (let at = 0; at < sizeBytes;) {
    const { bytesRead, buffer } = await reading;
    if (bytesRead === 0) throw new SinkFailure("the image became shorter while it was hashed");
    at += bytesRead;
    turn = turn === 0 ? 1 : 0;
    reading = readAt(at, turn);
    hash.update(buffer.subarray(0, bytesRead));
  }
  await reading;
  return `sha256:${hash.digest("hex")}`;
};

export interface BuildEvents {
  readonly onProgress: (done: number, total: number) => void;
  /** All is written; the caller may sync the file while it is hashed. */
  readonly onWritten: () => void;
}

const readAll = async (image: LayeredImage, job: BuildJob, onProgress: BuildEvents["onProgress"]): Promise<void> => {
  const budget = { unpackedBytes: 0, maxBytes: job.limits.maxUnpackedBytes };
  const expansion = { maxRatio: job.limits.maxUnpackRatio, freeBytes: job.limits.freeUnpackBytes };
  let total = job.layers.reduce((sum, layer) => sum + sizeOf(layer), 0);
  let done = 0;
  const readOne = async (number: number, input: LayerInput): Promise<void> => {
    const layer = job.layers[number];
    if (layer === undefined) return;
    const onRead = (bytes: number): void => {
      done += bytes;
      onProgress(Math.min(done, total), total);
    };
    try {
      await readLayer(layer, { write: (chunk) => input.write(chunk), onRead, budget, expansion });
      input.end();
    } catch (error) {
      throw error instanceof SinkFailure ? error : new LayerFailure(layer, error);
    }
  };
  for (let number = job.layers.length - 1; number >= 0; number -= 1) await readOne(number, image.readLayer(number));
  for (const number of image.layersToReadAgain()) {
    const layer = job.layers[number];
    total += layer === undefined ? 0 : sizeOf(layer);
    await readOne(number, image.readLayerAgain(number));
  }
};

const sizeOf = (layer: LayerSource): number => {
  try {
    return statSync(layer.path).size;
  } catch (error) {
    throw new LayerFailure(layer, error);
  }
};

/** Nothing is on its way to the file when it returns or throws. */
const write = async (
  image: LayeredImage,
  sink: FileSink,
  { job, onProgress }: { job: BuildJob; onProgress: BuildEvents["onProgress"] },
): Promise<ImageSummary> => {
  let summary: ImageSummary;
  try {
    await readAll(image, job, onProgress);
    summary = image.finish();
  } finally {
    await sink.settled();
  }
  sink.finish(summary.sizeBytes);
  return summary;
};

/** Builds the image into the job's file. Blocks its thread; meant for a worker. Throws LayerFailure, SinkFailure, Ext4Error. */
export const build = async (job: BuildJob, events: BuildEvents): Promise<BuiltRootfs> => {
  const options = { identity: rootfsIdentity(job.key), limits: job.limits, layerCount: job.layers.length };
  const sink = new FileSink(job.fd, { directory: job.directory, reserveBytes: job.limits.reserveBytes });
  const image = new LayeredImage(options, sink);
  const summary = await write(image, sink, { job, onProgress: events.onProgress });
  events.onWritten();
  return { sizeBytes: summary.sizeBytes, digest: await hashFile(job.fd, summary.sizeBytes), inodes: summary.inodes };
};
