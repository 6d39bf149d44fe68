import type { RawName } from "../../tar/index.ts";
import { BLOCK_BYTES, DIRECTORY_ENTRY_TYPE } from "./constants.ts";
import type { NodeKind } from "./constants.ts";
import { crc32c } from "./crc32c.ts";

export interface DirectoryEntry {
  readonly name: RawName;
  readonly inode: number;
  readonly kind: NodeKind;
}

const HEADER_BYTES = 8;
const TAIL_BYTES = 12;
const TAIL_TYPE = 0xde;
const USABLE_BYTES = BLOCK_BYTES - TAIL_BYTES;

const entryBytes = (name: RawName): number => (HEADER_BYTES + name.length + 3) & ~3;

/** Each block ends with a fake entry that holds its checksum. */
const sealBlock = (block: Buffer, inodeSeed: number): void => {
  block.writeUInt16LE(TAIL_BYTES, USABLE_BYTES + 4);
  block.writeUInt8(TAIL_TYPE, USABLE_BYTES + 7);
  block.writeUInt32LE(crc32c(inodeSeed, block, { start: 0, end: USABLE_BYTES }), USABLE_BYTES + 8);
};

/** Writes one entry at `at` that takes `length` bytes with the room behind it. */
export const writeEntry = (block: Buffer, entry: DirectoryEntry, place: { at: number; length: number }): void => {
  block.writeUInt32LE(entry.inode, place.at);
  block.writeUInt16LE(place.length, place.at + 4);
  block.writeUInt8(entry.name.length, place.at + 6);
  block.writeUInt8(DIRECTORY_ENTRY_TYPE[entry.kind], place.at + 7);
  block.write(entry.name, place.at + HEADER_BYTES, "latin1");
};

/** A block of a directory with no entry in it. */
export const emptyDirectoryBlock = (inodeSeed: number): Buffer => {
  const block = Buffer.alloc(BLOCK_BYTES);
  block.writeUInt16LE(USABLE_BYTES, 4);
  sealBlock(block, inodeSeed);
  return block;
};

/** Where blocks begin if the entries are packed in their order: the index of each block's first entry, and behind the last their number. */
export const splitEntries = (entries: readonly DirectoryEntry[]): number[] => {
  const starts = [0];
  let used = 0;
  for (const [index, { name }] of entries.entries()) {
    const length = entryBytes(name);
    if (used + length > USABLE_BYTES) {
      starts.push(index);
      used = 0;
    }
    used += length;
  }
  starts.push(entries.length);
  return starts;
};

/** One block of at least one entry, with its checksum. They must fit, as `splitEntries` says. */
export const encodeDirectoryBlock = (entries: readonly DirectoryEntry[], inodeSeed: number): Buffer => {
  const block = Buffer.alloc(BLOCK_BYTES);
  let at = 0;
  for (const [index, entry] of entries.entries()) {
    const length = index === entries.length - 1 ? USABLE_BYTES - at : entryBytes(entry.name);
    writeEntry(block, entry, { at, length });
    at += length;
  }
  sealBlock(block, inodeSeed);
  return block;
};
