import { createHash } from "node:crypto";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { describeFailure } from "../../../packages/daemon/src/content/rootfs/failure.ts";
import { readLayer } from "../../../packages/daemon/src/content/rootfs/layer-stream.ts";
import { sniffLayerEncoding, type LayerEncoding } from "../../../packages/formats/src/oci/media-types.ts";
import { mutateBytes, replace } from "../engine/bytes.ts";
import type { Dice } from "../engine/dice.ts";
import { mustHold, type FuzzTarget, type Others, type Outcome } from "../engine/target.ts";

/** More than any input that is not made to expand. */
const MAX_UNPACKED_BYTES = 1 << 20;
const NO_DIGEST = `sha256:${"0".repeat(64)}`;

interface Unpacked {
  readonly outcome: Outcome;
  readonly bytes: Buffer;
  readonly words: string;
}

/** What a layer unpacks to. Its diff id is wrong, which is the last that is looked at: then all else is well. */
const unpack = async (path: string, mediaType: LayerEncoding): Promise<Unpacked> => {
  const parts: Buffer[] = [];
  const write = (chunk: Uint8Array): void => void parts.push(Buffer.from(chunk));
  const budget = { unpackedBytes: 0, maxBytes: MAX_UNPACKED_BYTES };
  const layer = { path, mediaType, diffId: NO_DIGEST };
  let words: string;
  try {
    await readLayer(layer, { write, budget, expansion: { maxRatio: 100, freeBytes: MAX_UNPACKED_BYTES }, onRead: () => undefined });
    return { outcome: "accepted", bytes: Buffer.concat(parts), words: "" };
  } catch (error) {
    const { kind, name, message } = describeFailure(error);
    mustHold(kind === "layer" || kind === "too-large", () => `${kind}: ${name}: ${message}`);
    const bytes = Buffer.concat(parts);
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    if (name === "DiffIdError") mustHold(message.includes(digest), () => `${message}, but what was handed on is ${digest}`);
    words = `${name}: ${message}`;
    return { outcome: name === "DiffIdError" ? "accepted" : "refused", bytes, words };
  }
};

/** gzip(1) and zstd(1) read what is accepted to the same, without a warning; what they read without one is accepted. */
const askTool = (input: Buffer, mediaType: LayerEncoding, ours: Unpacked): void => {
  if (mediaType === "tar") return;
  const tool = mediaType === "tar+gzip" ? "gzip" : "zstd";
  const { status, stdout, error } = spawnSync(tool, ["-dc"], { input, maxBuffer: 64 << 20 });
  if (error !== undefined) return;
  if (ours.outcome === "accepted") {
    mustHold(status === 0, () => `${tool} refuses with ${status} what is accepted`);
    mustHold(stdout.equals(ours.bytes), () => `${tool} reads ${stdout.length} bytes, and we ${ours.bytes.length} or others`);
  } else if (status === 0 && stdout.length <= MAX_UNPACKED_BYTES) {
    mustHold(isStricter(tool, ours.words, input), () => `${tool} accepts what is refused: ${ours.words}`);
  }
};

/** What gzip, xz and lz4 begin with: zstd(1) reads them too. */
const OTHER_FORMATS = ["1f8b", "fd377a585a", "04224d18", "02214c18", "5d0000"].map((hex) => Buffer.from(hex, "hex"));

/** gzip leaves out zeros behind the end without a word, and does not look at flags that nobody may use, nor at a header's checksum. */
const isStricter = (tool: string, words: string, input: Buffer): boolean => {
  if (tool === "gzip") return /bytes follow|flags set|header crc/.test(words);
  return /window|memory/i.test(words) || (/bytes follow/.test(words) && OTHER_FORMATS.some((magic) => input.includes(magic)));
};

const run: FuzzTarget["run"] = async (input, { thorough, scratch }) => {
  const path = join(scratch, "layer");
  writeFileSync(path, input);
  const mediaType = sniffLayerEncoding(input);
  const unpacked = await unpack(path, mediaType);
  if (thorough) askTool(input, mediaType, unpacked);
  return unpacked.outcome;
};

const pack = (content: Buffer, dice: Dice): Buffer =>
  dice.once(2) ? gzipSync(content, { level: dice.below(10) }) : zstdCompressSync(content);

const contentOf = (input: Buffer): Buffer => {
  try {
    return sniffLayerEncoding(input) === "tar+zstd" ? zstdDecompressSync(input, LIMITED) : gunzipSync(input, LIMITED);
  } catch {
    return input; // what cannot be unpacked is content itself
  }
};
const LIMITED = { maxOutputLength: MAX_UNPACKED_BYTES };

const SKIPPABLE = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
const PIECES = [
  ...([SKIPPABLE, Buffer.alloc(1), Buffer.alloc(600), Buffer.from("garbage"), Buffer.from([0x1f]), Buffer.from([0x1f, 0x8b])] as const),
  ...([gzipSync("x"), gzipSync(""), zstdCompressSync("x"), zstdCompressSync(""), Buffer.from([0x28, 0xb5, 0x2f, 0xfd])] as const),
] as const;

const mutate = (input: Buffer, dice: Dice, others: Others): Buffer => {
  switch (dice.below(8)) {
    case 0: // other content
      return pack(
        mutateBytes(contentOf(input), dice, () => contentOf(others())),
        dice,
      );
    case 1: // one more member or frame
      return Buffer.concat([input, dice.once(2) ? others() : dice.pick(PIECES)]);
    case 2:
      return Buffer.concat([dice.pick(PIECES), input]);
    case 3: // the header: flags, method, window
      return replace(input, { at: dice.below(12), cut: 1 }, Buffer.of(dice.below(256)));
    case 4: // the checksum and length at the end
      return replace(input, { at: Math.max(0, input.length - 1 - dice.below(9)), cut: 1 }, Buffer.of(dice.below(256)));
    case 5:
      return input.subarray(0, dice.below(input.length + 1));
    case 6: // a flag whose field is not there, or is
      return replace(input, { at: 3, cut: 1 }, Buffer.of(1 << dice.below(8)));
    default:
      return mutateBytes(input, dice, others);
  }
};

export const LAYER_STREAM: FuzzTarget = {
  about: "gzip and zstd framing of layers, as they are read from a file",
  holds: "what is handed on has the digest that is told; gzip(1) and zstd(1) read the same, and refuse no less but zeros behind a gzip",
  maxBytes: 8 << 10,
  run,
  mutate,
};
