import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { Ext4Error, LayeredImage, type ImageSummary, type LayerInput } from "../../../packages/formats/src/ext4/index.ts";
import { TarError } from "../../../packages/formats/src/tar/index.ts";
import { mustHold, type FuzzTarget } from "../engine/target.ts";
import { mutateStack, splitStack } from "./stack.ts";

const IDENTITY = { uuid: Buffer.alloc(16, 0x42), hashSeed: Buffer.alloc(16, 0x17), timeSeconds: 315_532_800, label: "" };
const LIMITS = { maxImageBytes: 32 << 20, maxEntries: 3000, maxMetadataBytes: 4 << 20 };

interface Written {
  readonly offset: number;
  readonly bytes: Buffer;
}

interface Built {
  readonly writes: readonly Written[];
  readonly summary: ImageSummary;
}

/** The image of a stack in memory; a string is the code of the error that it ends with. */
const build = (layers: readonly Buffer[], chunkBytes: number): Built | string => {
  const writes: Written[] = [];
  const image = new LayeredImage(
    { identity: IDENTITY, limits: LIMITS, layerCount: layers.length },
    { write: (offset, bytes) => void writes.push({ offset, bytes: Buffer.from(bytes) }) },
  );
  const feed = (input: LayerInput, tar: Buffer): void => {
    for (let at = 0; at < tar.length; at += chunkBytes) input.write(tar.subarray(at, at + chunkBytes));
    input.end();
  };
  try {
    for (const [number, tar] of [...layers.entries()].reverse()) feed(image.readLayer(number), tar);
    for (const number of image.layersToReadAgain()) feed(image.readLayerAgain(number), layers[number] ?? Buffer.alloc(0));
    return { writes, summary: image.finish() };
  } catch (error) {
    if (error instanceof Ext4Error && error.code === "LAYER_CHANGED") throw error;
    if (error instanceof TarError || error instanceof Ext4Error) return `${error.name} ${error.code}`;
    throw error;
  }
};

const digestOf = ({ writes }: Built): string => {
  const hash = createHash("sha256");
  for (const { offset, bytes } of [...writes].sort((a, b) => a.offset - b.offset)) hash.update(`${offset}:${bytes.length}:`).update(bytes);
  return hash.digest("hex");
};

/** Metadata and content lie inside the image, and nothing is written twice. */
const checkWrites = ({ writes, summary }: Built): void => {
  let end = 0;
  for (const { offset, bytes } of [...writes].sort((a, b) => a.offset - b.offset)) {
    mustHold(offset >= end, () => `what is written at ${offset} lies over what ends at ${end}`);
    end = offset + bytes.length;
  }
  mustHold(end <= summary.sizeBytes && summary.sizeBytes <= LIMITS.maxImageBytes, () => `${end} of ${summary.sizeBytes} bytes are written`);
};

const askE2fsck = ({ writes, summary }: Built, path: string): void => {
  const fd = openSync(path, "w");
  try {
    for (const { offset, bytes } of writes) writeSync(fd, bytes, 0, bytes.length, offset);
    ftruncateSync(fd, summary.sizeBytes);
  } finally {
    closeSync(fd);
  }
  const { status, stdout, error } = spawnSync("e2fsck", ["-fn", path], { encoding: "utf8" });
  mustHold(error !== undefined || status === 0, () => `e2fsck: ${stdout}`);
};

const run: FuzzTarget["run"] = (input, { thorough, scratch }) => {
  const layers = splitStack(input);
  const built = build(layers, 1 << 20);
  if (typeof built !== "string") checkWrites(built);
  if (!thorough) return typeof built === "string" ? "refused" : "accepted";
  const again = build(layers, 700);
  if (typeof built === "string") {
    mustHold(built === again, () => `${built} whole, and ${typeof again === "string" ? again : "accepted"} in pieces`);
    return "refused";
  }
  mustHold(typeof again !== "string" && digestOf(built) === digestOf(again), () => "other bytes in pieces");
  askE2fsck(built, join(scratch, "image"));
  return "accepted";
};

export const LAYERS: FuzzTarget = {
  about: "stacks of layers to an ext4 image: the merge, and the writer",
  holds: "pieces make no difference to the bytes; nothing is written twice or outside; `e2fsck -fn` finds nothing",
  maxBytes: 24 << 10,
  run,
  mutate: mutateStack,
};
