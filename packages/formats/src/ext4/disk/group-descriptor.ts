import { BLOCK_BYTES, DESCRIPTOR_BYTES } from "./constants.ts";
import { crc32c, crc32cWord } from "./crc32c.ts";

export interface GroupDescriptor {
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
  readonly inodeTable: number;
  readonly freeBlocks: number;
  readonly freeInodes: number;
  readonly directories: number;
  /** Inodes at the end of the group's table that were never used. */
  readonly unusedInodes: number;
  readonly flags: number;
  /** CRC of each bitmap, 0 for one that is not initialised. */
  readonly blockBitmapChecksum: number;
  readonly inodeBitmapChecksum: number;
}

const CHECKSUM_AT = 0x1e;

const splitBlock = (out: Buffer, block: number, at: { low: number; high: number }): void => {
  out.writeUInt32LE(block % 2 ** 32, at.low);
  out.writeUInt32LE(Math.floor(block / 2 ** 32), at.high);
};

const splitHalves = (out: Buffer, value: number, at: { low: number; high: number }): void => {
  out.writeUInt16LE(value & 0xffff, at.low);
  out.writeUInt16LE(value >>> 16, at.high);
};

/** One 64-byte descriptor with its checksum; `seed` is the file system's. */
export const encodeGroupDescriptor = (descriptor: GroupDescriptor, group: number, seed: number): Buffer => {
  const out = Buffer.alloc(DESCRIPTOR_BYTES);
  splitBlock(out, descriptor.blockBitmap, { low: 0x00, high: 0x20 });
  splitBlock(out, descriptor.inodeBitmap, { low: 0x04, high: 0x24 });
  splitBlock(out, descriptor.inodeTable, { low: 0x08, high: 0x28 });
  splitHalves(out, descriptor.freeBlocks, { low: 0x0c, high: 0x2c });
  splitHalves(out, descriptor.freeInodes, { low: 0x0e, high: 0x2e });
  splitHalves(out, descriptor.directories, { low: 0x10, high: 0x30 });
  out.writeUInt16LE(descriptor.flags, 0x12);
  splitHalves(out, descriptor.blockBitmapChecksum, { low: 0x18, high: 0x38 });
  splitHalves(out, descriptor.inodeBitmapChecksum, { low: 0x1a, high: 0x3a });
  splitHalves(out, descriptor.unusedInodes, { low: 0x1c, high: 0x32 });
  out.writeUInt16LE(crc32c(crc32cWord(seed, group), out) & 0xffff, CHECKSUM_AT);
  return out;
};

export const encodeGroupDescriptors = (descriptors: readonly GroupDescriptor[], seed: number): Buffer => {
  const out = Buffer.alloc(Math.ceil((descriptors.length * DESCRIPTOR_BYTES) / BLOCK_BYTES) * BLOCK_BYTES);
  for (const [group, descriptor] of descriptors.entries())
    out.set(encodeGroupDescriptor(descriptor, group, seed), group * DESCRIPTOR_BYTES);
  return out;
};
