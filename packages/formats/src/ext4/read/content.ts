import { fileRuns } from "./block-map.ts";
import type { Run } from "./block-map.ts";
import type { Ext4Inode } from "./inode.ts";
import { CONTENT_CHUNK_BYTES } from "./limits.ts";
import type { Meter } from "./limits.ts";
import type { Volume } from "./volume.ts";

export interface ContentPiece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** The bytes of one run, in bounded pieces, cut at the file's size. */
export function* readRun(volume: Volume, run: Run, sizeBytes: number): Generator<ContentPiece> {
  const { blockBytes } = volume.superblock;
  const step = CONTENT_CHUNK_BYTES / blockBytes;
  for (let done = 0; done < run.count; done += step) {
    const count = Math.min(step, run.count - done);
    const offset = (run.logical + done) * blockBytes;
    const bytes = volume.medium.blocks(run.physical + done, count);
    yield { offset, bytes: offset + bytes.length > sizeBytes ? bytes.subarray(0, sizeBytes - offset) : bytes };
  }
}

/** The written bytes of what has blocks; all between them is zero. Throws Ext4ReadError. */
export function* readRuns(volume: Volume, inode: Ext4Inode, meter: Meter): Generator<ContentPiece> {
  for (const run of fileRuns(volume, inode, meter)) if (!run.unwritten) yield* readRun(volume, run, inode.sizeBytes);
}
