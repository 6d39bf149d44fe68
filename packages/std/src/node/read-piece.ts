import type { FileHandle } from "node:fs/promises";

/** Fills the buffer from `position` (bytes) on; says how many bytes there were, which are fewer only where the file ends in it. */
export const readPiece = async (file: FileHandle, buffer: Uint8Array, position: number): Promise<number> => {
  let filled = 0;
  while (filled < buffer.length) {
    const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
};
