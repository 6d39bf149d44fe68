import { open } from "node:fs/promises";
import { READ_LIMITS } from "./limits.ts";

/**
 * A file's bytes, read one piece ahead into the same two buffers over and over: a piece is valid until the next is asked for, so what takes
 * them must be done with one before it asks (a stream with a high water mark of one byte). A buffer of its own for each would leave the
 * thread with more garbage than it has anything else.
 */
export class FilePieces implements AsyncIterable<Buffer> {
  readonly #path: string;
  #bytesRead = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** What was handed on so far. */
  get bytesRead(): number {
    return this.#bytesRead;
  }

  /** Throws what the file system throws. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    await using file = await open(this.#path);
    const buffers = [Buffer.allocUnsafeSlow(READ_LIMITS.fileBytes), Buffer.allocUnsafeSlow(READ_LIMITS.fileBytes)] as const;
    const read = (turn: 0 | 1) => file.read(buffers[turn], 0, READ_LIMITS.fileBytes);
    let turn: 0 | 1 = 0;
    let reading = read(turn);
    try {
      for (;;) {
        const { bytesRead, buffer } = await reading;
        if (bytesRead === 0) return;
        turn = turn === 0 ? 1 : 0;
        reading = read(turn);
        this.#bytesRead += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await Promise.allSettled([reading]);
    }
  }
}
