import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Ext4Reader, Ext4ReadError, ext4ToTar, type Ext4Entry } from "../../../packages/formats/src/ext4/read/index.ts";
import { TarError, TarParser } from "../../../packages/formats/src/tar/index.ts";
import { mutateBytes } from "../engine/bytes.ts";
import type { Dice } from "../engine/dice.ts";
import { mustHold, type FuzzTarget, type Others } from "../engine/target.ts";

const LIMITS = { maxEntries: 2000, maxMetadataBytes: 4 << 20, maxHeldBytes: 4 << 20, maxFileBytes: 2 ** 40 };
/** A few blocks can be the content of many files, many times over: whoever reads content has to stop somewhere. */
const MAX_CONTENT_BYTES = 4 << 20;

interface Budget {
  bytes: number;
}

const readContent = (reader: Ext4Reader, { path, inode }: Ext4Entry, budget: Budget): void => {
  let end = 0;
  for (const { offset, bytes } of reader.content(inode)) {
    mustHold(offset >= end && bytes.length > 0, () => `content of ${path} at ${offset} lies before ${end}`);
    end = offset + bytes.length;
    mustHold(end <= inode.sizeBytes, () => `content of ${path} ends at ${end}, behind its size of ${inode.sizeBytes}`);
    budget.bytes -= bytes.length;
    if (budget.bytes < 0) return;
  }
};

/** Reads all there is; returns how many entries. */
const readTree = (reader: Ext4Reader): number => {
  const paths = new Set<string>();
  const budget = { bytes: MAX_CONTENT_BYTES };
  for (const entry of reader.walk()) {
    const { path, name, inode } = entry;
    mustHold(!paths.has(path), () => `${path} comes twice`);
    mustHold(
      path === "" || (name !== "" && name !== "." && name !== ".." && !/[/\0]/.test(name)),
      () => `${JSON.stringify(path)} is a path`,
    );
    mustHold(paths.size === 0 || path === name || paths.has(path.slice(0, -name.length - 1)), () => `${path} comes before its directory`);
    paths.add(path);
    for (const { value } of reader.xattrs(inode)) mustHold(value.length <= 65_536, () => `an attribute has ${value.length} bytes`);
    if (inode.type === "symlink") mustHold(!reader.readLink(inode).includes(0), () => `${path} has a zero in its target`);
    if (inode.type === "file" && budget.bytes > 0) readContent(reader, entry, budget);
  }
  return paths.size;
};

/** The tar made of it is one, with an entry for each; null where it is cut because it is long. */
const readTar = (reader: Ext4Reader): number | null => {
  let entries = 0;
  const visitor = { entry: () => (entries += 1) > 0, data: () => undefined, hole: () => undefined, end: () => undefined };
  const parser = new TarParser(visitor);
  let bytes = 0;
  for (const piece of ext4ToTar(reader)) {
    bytes += piece.length;
    if (bytes > MAX_CONTENT_BYTES) return null;
    try {
      parser.write(piece);
    } catch (error) {
      mustHold(false, () => `the tar is none: ${String(error)}`);
    }
  }
  parser.end();
  return entries;
};

/** What e2fsck finds nothing wrong with can be read, if nothing of it is unsupported or too much. */
const askE2fsck = (image: Buffer, path: string, refusal: Ext4ReadError): void => {
  writeFileSync(path, image);
  const { status, error } = spawnSync("e2fsck", ["-fn", path], { encoding: "utf8" });
  if (error !== undefined) return;
  mustHold(
    status !== 0 || STRICTER.has(refusal.code),
    () => `e2fsck finds nothing wrong, and it is refused: ${refusal.code} ${refusal.message}`,
  );
};

/** `e2fsck -n` says of a medium that is too short that it is, and ends with 0. */
const STRICTER: ReadonlySet<string> = new Set(["UNSUPPORTED", "LIMIT", "NOT_EXT4", "MEDIUM"]);

const source = (image: Buffer) => ({
  sizeBytes: image.length,
  read: (offset: number, length: number): Uint8Array => {
    mustHold(
      offset >= 0 && length >= 0 && offset + length <= image.length,
      () => `${length} bytes are read at ${offset} of ${image.length}`,
    );
    return image.subarray(offset, offset + length);
  },
});

const run: FuzzTarget["run"] = (image, { thorough, scratch }) => {
  try {
    const reader = Ext4Reader.open(source(image), LIMITS);
    const entries = readTree(reader);
    try {
      const inTar = readTar(reader);
      mustHold(inTar === null || inTar <= entries, () => `${entries} entries become ${inTar} of a tar`);
    } catch (error) {
      if (!(error instanceof TarError && error.code === "LIMIT") && !(error instanceof Ext4ReadError)) throw error;
    }
    return "accepted";
  } catch (error) {
    if (!(error instanceof Ext4ReadError)) throw error;
    if (thorough) askE2fsck(image, join(scratch, "image"), error);
    return "refused";
  }
};

const SUPERBLOCK = 1024;
const VALUES = [
  0, 1, 2, 3, 4, 5, 11, 12, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x0001_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff,
] as const;

/** Places in use: what is changed among zeros is mostly never looked at. */
const somePlace = (image: Buffer, dice: Dice): number => {
  const blockBytes = 1024 << Math.min(image.length > SUPERBLOCK + 28 ? image.readUInt32LE(SUPERBLOCK + 24) : 0, 2);
  const descriptors = blockBytes === 1024 ? 2048 : blockBytes;
  const inodeBytes = image.length > SUPERBLOCK + 90 ? image.readUInt16LE(SUPERBLOCK + 88) : 128;
  const table = image.length > descriptors + 12 ? image.readUInt32LE(descriptors + 8) * blockBytes : 0;
  switch (dice.below(8)) {
    case 0:
      return SUPERBLOCK + dice.below(1024);
    case 1:
      return descriptors + dice.below(64);
    case 2:
    case 3:
    case 4:
      return table + dice.below(24) * inodeBytes + dice.below(inodeBytes);
    default: {
      let at = dice.below(image.length);
      for (let tries = 0; tries < 64 && image[at] === 0; tries += 1) at = dice.below(image.length);
      // the front of a block has its structure
      return dice.once(2) ? at - (at % blockBytes) + dice.below(64) : at;
    }
  }
};

const mutate = (input: Buffer, dice: Dice, others: Others): Buffer => {
  if (dice.once(50)) return mutateBytes(input, dice, others);
  const image = Buffer.from(input);
  const width = dice.pick([1, 2, 4]);
  const at = somePlace(image, dice);
  const aligned = at - (at % width);
  if (aligned + width > image.length) return image;
  const blocks = Math.floor(image.length / 1024);
  const value = dice.once(3) ? dice.below(blocks + 4) : dice.once(4) ? dice.next() : dice.pick(VALUES);
  if (dice.once(6)) {
    // another value of the image, such as the number of another block or inode
    const from = somePlace(image, dice) & ~3;
    if (from + 4 <= image.length) image.copyWithin(aligned, from, from + width);
  } else image.writeUIntLE(value % 2 ** (8 * width), aligned, width);
  return image;
};

export const EXT4: FuzzTarget = {
  about: "the ext4 reader, and the layer tar made of a file system",
  holds:
    "reads stay inside; paths make a tree; content lies in order within its size; the tar is one; what e2fsck finds nothing wrong with is read",
  maxBytes: 320 << 10,
  run,
  mutate,
};

export const EXT4_JOURNAL: FuzzTarget = {
  ...EXT4,
  about: "the same for file systems with a journal to replay",
  maxBytes: 2200 << 10,
};
