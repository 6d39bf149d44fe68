import { ftruncateSync, statfsSync, writeSync } from "node:fs";
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

/**
 * Writes to an open file, and stops before the disk is full: others write there too, and a daemon whose records find no room is of no
 * use. The holes of the file stay holes; nobody writes to it once it is published, so they never need room later. Throws SinkFailure.
 */
export class FileSink implements Sink {
  readonly #fd: number;
  readonly #directory: string;
  readonly #reserveBytes: number;
  /** What may be written before the next look at the disk. */
  #allowedBytes = 0;

  /** `directory` is on the file's disk. */
  constructor(fd: number, room: { readonly directory: string; readonly reserveBytes: number }) {
    this.#fd = fd;
    this.#directory = room.directory;
    this.#reserveBytes = room.reserveBytes;
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#attempt(() => {
      if (bytes.length > this.#allowedBytes) this.#lookAtDisk(bytes.length);
      this.#allowedBytes -= bytes.length;
      for (let at = 0; at < bytes.length;) at += writeSync(this.#fd, bytes, at, bytes.length - at, offset + at);
    });
  }

  /** Gives the file its size; what was not written is a hole. */
  finish(sizeBytes: number): void {
    this.#attempt(() => ftruncateSync(this.#fd, sizeBytes));
  }

  #lookAtDisk(neededBytes: number): void {
    const { bavail, bsize } = statfsSync(this.#directory);
    const spareBytes = bavail * bsize - this.#reserveBytes;
    if (spareBytes < neededBytes) throw new RoomError(bavail * bsize, this.#reserveBytes);
    this.#allowedBytes = Math.max(neededBytes, Math.min(spareBytes, WRITE_LIMITS.betweenLooksBytes));
  }

  #attempt(write: () => void): void {
    try {
      write();
    } catch (error) {
      throw new SinkFailure("the image cannot be written", { cause: error });
    }
  }
}
