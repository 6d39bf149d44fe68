import { Ext4ReadError } from "./errors.ts";
import type { Ext4Inode } from "./inode.ts";

/** A stretch of a file's data. */
export interface Stretch {
  readonly offset: number;
  readonly length: number;
}

/** The most stretches that a tar's readers take, but one for the end of the file. */
const MAX_STRETCHES = 2 ** 18 - 1;
/** Holes below it are cheaper as zeros than as a map, and more programs read them, */
const WORTH_BYTES = 65_536;
/** but not those that are most of a file: zeros are never more than the data, so that a small image makes no large tar. */
const SMALL_BYTES = 4096;

/**
 * How a file's content is laid out in a tar: its stretches of data with holes between them, or null where it is better stored whole.
 * Throws Ext4ReadError NOT_REPRESENTABLE for more stretches than a tar's map can have.
 */
export const planStretches = (data: Iterable<Stretch>, inode: Ext4Inode): Stretch[] | null => {
  const stretches: { offset: number; length: number }[] = [];
  let [dataBytes, end] = [0, -1];
  for (const { offset, length } of data) {
    const last = stretches.at(-1);
    if (last !== undefined && offset === end) last.length += length;
    else stretches.push({ offset, length });
    end = offset + length;
    dataBytes += length;
    if (stretches.length > MAX_STRETCHES)
      throw new Ext4ReadError(
        "NOT_REPRESENTABLE",
        `inode ${inode.number} has more than ${MAX_STRETCHES} holes, and a tar cannot say so many`,
      );
  }
  const holeBytes = inode.sizeBytes - dataBytes;
  return holeBytes >= WORTH_BYTES || holeBytes > Math.max(dataBytes, SMALL_BYTES) ? stretches : null;
};
