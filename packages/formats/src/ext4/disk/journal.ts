import { BLOCK_BYTES } from "./constants.ts";

const MAGIC = 0xc03b_3998;
const SUPERBLOCK_V2 = 4;

/** The first block of an empty internal journal (jbd2, big-endian): nothing to replay. `blocks` counts this one. */
export const encodeJournalSuperblock = (blocks: number, uuid: Uint8Array): Buffer => {
  const out = Buffer.alloc(BLOCK_BYTES);
  out.writeUInt32BE(MAGIC, 0x00);
  out.writeUInt32BE(SUPERBLOCK_V2, 0x04);
  out.writeUInt32BE(BLOCK_BYTES, 0x0c);
  out.writeUInt32BE(blocks, 0x10);
  out.writeUInt32BE(1, 0x14);
  out.writeUInt32BE(1, 0x18);
  out.set(uuid, 0x30);
  out.writeUInt32BE(1, 0x40);
  return out;
};
