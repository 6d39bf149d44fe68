import { ftruncateSync, statfsSync, write, writeSync } from "node:fs";
import { promisify } from "node:util";
import type { Sink } from "@kiln/formats/ext4";
import { WRITE_LIMITS } from "./limits.ts";

/** Writing the image failed, whichever layer was being read. */
export class SinkFailure extends Error {
  override readonly name = "SinkFailure";
}

/** The disk has room left, but no more than has to stay free. */
export class RoomError extends Error {
  override readonly name = "RoomError";
  readonly code = "ENOSPC";

  constructor(freeBytes: number, reserveBytes: number) {
    super(`${Math.floor(freeBytes / 2 ** 20)} MiB are left, and ${Math.floor(reserveBytes / 2 ** 20)} MiB stay free`);
  }
}

const writePiece = promisify(write);

/**
 * Writes to an open file, and stops before the disk is full: others write there too, and a daemon whose records find no room is of no
 * use. The holes of the file stay holes; nobody writes to it once it is published, so they never need room later. Throws SinkFailure.
 *
 * Buffers that are handed over are written by another thread, as many at once as there are spare ones; then, until one comes back in
 * a later turn of the event loop, by this one.
 */
export class FileSink implements Sink {
  readonly #fd: number;
  readonly #directory: string;
  readonly #reserveBytes: number;
  /** What may be written before the next look at the disk. */
  #allowedBytes = 0;
  readonly #spare: Buffer<ArrayBuffer>[] = [];
  #onTheirWay = 0;
  #written = Promise.withResolvers<void>();
  /** Why one that was handed over could not be written. */
  #failure: { readonly cause: unknown } | null = null;

  /** `directory` is on the file's disk. */
  constructor(fd: number, room: { readonly directory: string; readonly reserveBytes: number }) {
    this.#fd = fd;
    this.#directory = room.directory;
    this.#reserveBytes = room.reserveBytes;
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#attempt(() => {
      this.#spend(bytes.length);
      for (let at = 0; at < bytes.length;) at += writeSync(this.#fd, bytes, at, bytes.length - at, offset + at);
    });
  }

  exchange(offset: number, buffer: Buffer<ArrayBuffer>, length: number): Buffer<ArrayBuffer> {
    const spare = this.#spare.pop() ?? (this.#onTheirWay < WRITE_LIMITS.buffersBehind ? Buffer.allocUnsafeSlow(buffer.length) : null);
    if (spare === null) {
      this.write(offset, buffer.subarray(0, length));
      return buffer;
    }
    this.#attempt(() => {
      this.#spend(length);
      if (this.#onTheirWay === 0) this.#written = Promise.withResolvers();
      this.#onTheirWay += 1;
      void this.#writeBehind(offset, buffer, length);
    });
    return spare;
  }

  /** Resolves when nothing is on its way to the file any more, whether it got there or not. */
  async settled(): Promise<void> {
    if (this.#onTheirWay > 0) await this.#written.promise;
  }

  async #writeBehind(offset: number, buffer: Buffer<ArrayBuffer>, length: number): Promise<void> {
    try {
      for (let at = 0; at < length;) at += (await writePiece(this.#fd, buffer, at, length - at, offset + at)).bytesWritten;
    } catch (cause) {
      this.#failure ??= { cause };
    }
    this.#spare.push(buffer);
    this.#onTheirWay -= 1;
    if (this.#onTheirWay === 0) this.#written.resolve();
  }

  /** Gives the file its size; what was not written is a hole. All has settled before. */
  finish(sizeBytes: number): void {
    this.#attempt(() => ftruncateSync(this.#fd, sizeBytes));
  }

  #spend(bytes: number): void {
    if (bytes > this.#allowedBytes) this.#lookAtDisk(bytes);
    this.#allowedBytes -= bytes;
  }

  #lookAtDisk(neededBytes: number): void {
    const { bavail, bsize } = statfsSync(this.#directory);
    const spareBytes = bavail * bsize - this.#reserveBytes;
    if (spareBytes < neededBytes) throw new RoomError(bavail * bsize, this.#reserveBytes);
    this.#allowedBytes = Math.max(neededBytes, Math.min(spareBytes, WRITE_LIMITS.betweenLooksBytes));
  }

  #attempt(write: () => void): void {
    try {
      if (this.#failure !== null) throw this.#failure.cause;
      write();
    } catch (error) {
      throw new SinkFailure("the image cannot be written", { cause: error });
    }
  }
}
