/** The blocks of a jbd2 transaction: Documentation/filesystems/ext4/journal.rst. */
import { crc32c } from "../disk/crc32c.ts";

export const JOURNAL_MAGIC = 0xc03b_3998;

/** How the log is written: the size of block numbers, and its checksums (0: none, or those of the commit alone). */
export interface LogFormat {
  readonly seed: number | null;
  readonly is64: boolean;
  readonly version: 0 | 2 | 3;
}

/** One block that a descriptor names. */
export interface Tag {
  readonly block: number;
  readonly escaped: boolean;
  readonly checksum: number;
}

const HEADER_BYTES = 12;
const TAIL_BYTES = 4;
const UUID_BYTES = 16;
const FLAGS = { escaped: 0x1, sameUuid: 0x2, last: 0x8 } as const;
const REVOCATIONS_AT = 16;
const COMMIT_CHECKSUM_AT = 16;
const NO_WORD = Buffer.alloc(4);

/** With checksums the last four bytes of a descriptor and of a list of revocations are one. */
const tailIsRight = (block: Buffer, { seed }: LogFormat): boolean => {
  if (seed === null) return true;
  const at = block.length - TAIL_BYTES;
  return crc32c(crc32c(seed, block, { start: 0, end: at }), NO_WORD) === block.readUInt32BE(at);
};

const usableBytes = (block: Buffer, { seed }: LogFormat): number => block.length - (seed === null ? 0 : TAIL_BYTES);

/** Version 2 has two bytes more than it needs, and keeps half of a checksum. */
const tagBytes = ({ version, is64 }: LogFormat): number => (version === 3 ? 16 : 8 + (version === 2 ? 2 : 0) + (is64 ? 4 : 0));

/** The blocks that follow a descriptor in the log; null where its checksum is wrong. */
export const readDescriptor = (block: Buffer, format: LogFormat): Tag[] | null => {
  if (!tailIsRight(block, format)) return null;
  const end = usableBytes(block, format);
  const length = tagBytes(format);
  const tags: Tag[] = [];
  for (let at = HEADER_BYTES; at + length <= end;) {
    const isV3 = format.version === 3;
    const flags = isV3 ? block.readUInt32BE(at + 4) : block.readUInt16BE(at + 6);
    const high = format.is64 ? block.readUInt32BE(at + 8) : 0;
    const checksum = isV3 ? block.readUInt32BE(at + 12) : block.readUInt16BE(at + 4);
    tags.push({ block: block.readUInt32BE(at) + high * 2 ** 32, escaped: (flags & FLAGS.escaped) !== 0, checksum });
    if ((flags & FLAGS.last) !== 0) break;
    at += length + ((flags & FLAGS.sameUuid) === 0 ? UUID_BYTES : 0);
  }
  return tags;
};

const sequenceWord = Buffer.alloc(4);

/** Whether a copy in the log has the checksum that its tag says. */
export const taggedBlockIsWhole = (copy: Buffer, tag: Tag, of: { readonly format: LogFormat; readonly sequence: number }): boolean => {
  const { seed, version } = of.format;
  if (seed === null) return true;
  sequenceWord.writeUInt32BE(of.sequence, 0);
  const crc = crc32c(crc32c(seed, sequenceWord), copy);
  return tag.checksum === (version === 3 ? crc : crc & 0xffff);
};

/** The blocks of a list of revocations; null where it is malformed. */
export const readRevocations = (block: Buffer, format: LogFormat): number[] | null => {
  const used = block.readUInt32BE(HEADER_BYTES);
  if (!tailIsRight(block, format) || used < REVOCATIONS_AT || used > usableBytes(block, format)) return null;
  const length = format.is64 ? 8 : 4;
  const blocks: number[] = [];
  for (let at = REVOCATIONS_AT; at + length <= used; at += length)
    blocks.push(format.is64 ? block.readUInt32BE(at) * 2 ** 32 + block.readUInt32BE(at + 4) : block.readUInt32BE(at));
  return blocks;
};

/** Whether a commit is whole. */
export const readCommit = (block: Buffer, { seed }: LogFormat): boolean => {
  if (seed === null) return true;
  const head = crc32c(crc32c(seed, block, { start: 0, end: COMMIT_CHECKSUM_AT }), NO_WORD);
  return crc32c(head, block, { start: COMMIT_CHECKSUM_AT + 4, end: block.length }) === block.readUInt32BE(COMMIT_CHECKSUM_AT);
};
