import { constants } from "node:fs";
import { open, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { Ext4Error, writeEmptyExt4 } from "@kiln/formats/ext4";
import { KilnError, asKilnError } from "@kiln/protocol/errors";
import { diskIdentity } from "./identity.ts";

export interface EmptyDiskRequest {
  /** Created, or taken over where it is there and empty. Mode 0600 if created. */
  readonly path: string;
  /** 8 MiB to 16 TiB. */
  readonly sizeBytes: number;
  /** In its text form. */
  readonly uuid: string;
  /** At most 16 bytes. */
  readonly label?: string;
}

/** What the agent mounts the image's overlay with: it need not make them, which costs a guest more than all that is written here. */
const OVERLAY_DIRECTORIES = [
  { name: "upper", mode: 0o755 },
  { name: "work", mode: 0o700 },
];

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

interface Write {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** What is not zero of such a file system, in memory: some 200 KiB for 8 GiB, 12 MiB for 1 TiB. */
const collectWrites = (request: EmptyDiskRequest): readonly Write[] => {
  const writes: Write[] = [];
  const identity = diskIdentity(request.uuid, request.label ?? "");
  const options = { sizeBytes: request.sizeBytes, journal: true, directories: OVERLAY_DIRECTORIES, identity };
  writeEmptyExt4(options, { write: (offset, bytes) => writes.push({ offset, bytes: Uint8Array.from(bytes) }) });
  return writes;
};

const check = (request: EmptyDiskRequest): void => {
  if (!UUID.test(request.uuid)) throw new KilnError("INTERNAL", `${request.uuid} is not a UUID for the disk ${request.path}`);
  if (Buffer.byteLength(request.label ?? "") > 16)
    throw new KilnError("REQUEST_INVALID", `the label of the disk ${request.path} is longer than 16 bytes`);
};

/**
 * Writes a writable disk, an ext4 with a journal, whose directories for the overlay are empty: sparse, in milliseconds, synced when this
 * returns. On failure or abort the file is gone.
 * Throws KilnError REQUEST_INVALID (size, label), DISK_FULL, CANCELLED.
 */
export const createEmptyDisk = async (request: EmptyDiskRequest, options: { signal: AbortSignal }): Promise<void> => {
  const throwIfAborted = (): void => {
    if (options.signal.aborted)
      throw new KilnError("CANCELLED", `writing the disk ${request.path} was cancelled`, { cause: options.signal.reason });
  };
  throwIfAborted();
  check(request);
  await using undo = new AsyncDisposableStack();
  await using file = await openDisk(request.path);
  const { size } = await file.stat();
  if (size !== 0) throw new KilnError("INTERNAL", `the file ${request.path} for a new disk is not empty`, { object: request.path });
  undo.defer(() => rm(request.path, { force: true }));
  try {
    await file.truncate(request.sizeBytes);
    await writeAll(file, collectWrites(request));
    throwIfAborted();
    await file.sync();
  } catch (error) {
    if (error instanceof Ext4Error) throw new KilnError("REQUEST_INVALID", `the disk cannot be made: ${error.message}`, { cause: error });
    throw asKilnError(error);
  }
  throwIfAborted();
  undo.move();
};

const openDisk = async (path: string): Promise<FileHandle> => {
  try {
    return await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  } catch (error) {
    throw asKilnError(error);
  }
};

/** All at once: a start waits for it, and each by itself waits for a thread. Returns when none is under way any more. */
const writeAll = async (file: FileHandle, writes: readonly Write[]): Promise<void> => {
  const ends = await Promise.allSettled(writes.map(({ offset, bytes }) => writeWhole(file, bytes, offset)));
  for (const end of ends) if (end.status === "rejected") throw end.reason;
};

const writeWhole = async (file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> => {
  for (let at = 0; at < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, at, bytes.length - at, offset + at);
    at += bytesWritten;
  }
};
