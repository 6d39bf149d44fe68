import { lstatSync, unlinkSync } from "node:fs";
import { hasCode } from "./errno.ts";

/** What st_blocks counts in (stat(2)). */
const BLOCK_BYTES = 512;

/**
 * Removes a file within this turn of the event loop, so that nothing can happen between the decision and the deletion.
 * Returns the bytes on the disk that it had; 0 where there is none, and where the file has another name.
 */
export function removeFileNow(path: string): number {
  try {
    const { blocks, nlink } = lstatSync(path);
    unlinkSync(path);
    return nlink > 1 ? 0 : blocks * BLOCK_BYTES;
  } catch (error) {
    if (hasCode(error, "ENOENT")) return 0;
    throw error;
  }
}
