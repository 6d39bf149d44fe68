import { BLOCK_BYTES, DIRECTORY_ENTRY_TYPE } from "./constants.ts";
import type { NodeKind } from "./constants.ts";
import { crc32c } from "./crc32c.ts";

export interface DirectoryEntry {
  readonly name: Uint8Array;
  readonly inode: number;
  readonly kind: NodeKind;
}

const HEADER_BYTES = 8;
const TAIL_BYTES = 12;
const TAIL_TYPE = 0xde;
const USABLE_BYTES = BLOCK_BYTES - TAIL_BYTES;

const entryBytes = (name: Uint8Array): number => Math.ceil((HEADER_BYTES + name.length) / 4) * 4;

/** Each block ends with a fake entry that holds its checksum. */
const sealBlock = (block: Buffer, inodeSeed: number): void => {
  block.writeUInt16LE(TAIL_BYTES, USABLE_BYTES + 4);
  block.writeUInt8(TAIL_TYPE, USABLE_BYTES + 7);
  block.writeUInt32LE(crc32c(inodeSeed, block, { start: 0, end: USABLE_BYTES }), USABLE_BYTES + 8);
};

/** A block of a directory with no entry in it. */
export const emptyDirectoryBlock = (inodeSeed: number): Buffer => {
  const block = Buffer.alloc(BLOCK_BYTES);
  block.writeUInt16LE(USABLE_BYTES, 4);
  sealBlock(block, inodeSeed);
  return block;
};

/**
 * The blocks of a linear directory, checksums included. The entries come in the given order; "." and ".." must be the first two.
 * `inodeSeed` starts the checksums of the directory's inode.
 */
export const encodeDirectory = (entries: Iterable<DirectoryEntry>, inodeSeed: number): Buffer[] => {
  const blocks: Buffer[] = [];
  let block = Buffer.alloc(BLOCK_BYTES);
  let at = 0;
  let last = 0;
  const close = (): void => {
    block.writeUInt16LE(USABLE_BYTES - last, last + 4);
    sealBlock(block, inodeSeed);
    blocks.push(block);
  };
  for (const entry of entries) {
    const length = entryBytes(entry.name);
    if (at + length > USABLE_BYTES) {
      close();
      block = Buffer.alloc(BLOCK_BYTES);
      at = 0;
    }
    block.writeUInt32LE(entry.inode, at);
    block.writeUInt16LE(length, at + 4);
    block.writeUInt8(entry.name.length, at + 6);
    block.writeUInt8(DIRECTORY_ENTRY_TYPE[entry.kind], at + 7);
    block.set(entry.name, at + HEADER_BYTES);
    last = at;
    at += length;
  }
  close();
  return blocks;
};
