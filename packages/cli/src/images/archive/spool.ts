import { spawn, type ChildProcessByStdio } from "node:child_process";
import { randomBytes } from "node:crypto";
import { open, statfs, unlink, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { KilnError } from "@kiln/protocol/errors";
import { hasErrno } from "../../errno.ts";
import { archiveError } from "./archive-error.ts";
import { ArchiveFile } from "./archive-file.ts";
import type { Compression } from "./compression.ts";
import { ARCHIVE_LIMITS } from "./limits.ts";

export interface Spooling {
  /** For messages: what the caller named. */
  readonly name: string;
  readonly compression: Compression;
  /** Where the temporary file lies. */
  readonly directory: string;
  /** Bytes written so far. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
  /** What is left of the file system; 64 MiB unless told. */
  readonly reserveBytes?: number;
  readonly signal: AbortSignal;
}

/**
 * Unpacks a stream into a temporary file that has no name, so that it is gone with this process however it ends. Bounded
 * by the room there is. Throws DISK_FULL, IMAGE_INVALID, HOST_TOOL_MISSING.
 */
export const spool = async (source: AsyncIterable<Uint8Array>, spooling: Spooling): Promise<ArchiveFile> => {
  const { name, signal } = spooling;
  signal.throwIfAborted();
  await using stack = new AsyncDisposableStack();
  const handle = stack.use(await openUnnamed(spooling.directory));
  const room = new Room(spooling);
  let sizeBytes = 0;
  const write = async (chunks: AsyncIterable<Uint8Array>): Promise<void> => {
    for await (const chunk of chunks) {
      await room.take(chunk.length);
      await writeAll(handle, chunk, sizeBytes);
      sizeBytes += chunk.length;
      spooling.onProgress?.(sizeBytes);
    }
  };
  try {
    await unpack(source, write, spooling);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw spoolError(error, spooling);
  }
  if (sizeBytes === 0) throw archiveError(name, "it is empty");
  stack.move();
  return new ArchiveFile(handle, { name, sizeBytes });
};

const openUnnamed = async (directory: string): Promise<FileHandle> => {
  const path = join(directory, `.kiln-${process.pid}-${randomBytes(8).toString("hex")}`);
  try {
    await using stack = new AsyncDisposableStack();
    const handle = stack.use(await open(path, "wx+", 0o600));
    await unlink(path);
    stack.move();
    return handle;
  } catch (cause) {
    throw new KilnError("PERMISSION_DENIED", `no temporary file can be made in ${directory}`, {
      cause,
      object: directory,
      hint: "name a directory that you may write to in TMPDIR",
    });
  }
};

/** Several writes where the system takes a part only. */
const writeAll = async (handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> => {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
};

/** Looks now and then whether the file system has room for more. */
class Room {
  readonly #spooling: Spooling;
  #sinceBytes: number = ARCHIVE_LIMITS.roomCheckBytes;

  constructor(spooling: Spooling) {
    this.#spooling = spooling;
  }

  async take(bytes: number): Promise<void> {
    this.#sinceBytes += bytes;
    if (this.#sinceBytes < ARCHIVE_LIMITS.roomCheckBytes) return;
    this.#sinceBytes = 0;
    const { bavail, bsize } = await statfs(this.#spooling.directory);
    if (bavail * bsize < (this.#spooling.reserveBytes ?? ARCHIVE_LIMITS.reserveBytes)) throw noRoom(this.#spooling);
  }
}

const noRoom = ({ name, directory }: Spooling, cause?: unknown): KilnError =>
  new KilnError("DISK_FULL", `${name}: ${directory} has no room to unpack it`, {
    cause,
    object: name,
    hint: "make room there, or name another directory in TMPDIR; a plain tar in a file needs none",
  });

const spoolError = (error: unknown, spooling: Spooling): unknown => {
  if (error instanceof KilnError) return error;
  if (hasErrno(error, "ENOSPC", "EDQUOT", "EFBIG")) return noRoom(spooling, error);
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (/^(Z|ZSTD)_/.test(code)) {
    return archiveError(spooling.name, `its ${spooling.compression} is damaged or cut off`, { cause: error });
  }
  return error;
};

type Sink = (chunks: AsyncIterable<Uint8Array>) => Promise<void>;

const unpack = async (source: AsyncIterable<Uint8Array>, write: Sink, { name, compression, signal }: Spooling): Promise<void> => {
  switch (compression) {
    case "none":
      return write(abortably(source, signal));
    case "gzip":
      return pipeline(source, createGunzip(), write, { signal });
    case "zstd":
      return pipeline(source, createZstdDecompress(), write, { signal });
    case "xz":
      return unpackXz(source, write, { name, signal });
    case "bzip2":
      throw archiveError(name, "it is packed with bzip2, which is not understood", { hint: `unpack it first: bzip2 -d` });
  }
};

async function* abortably(source: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    signal.throwIfAborted();
    yield chunk;
  }
}

/** What xz may use for its dictionary: the highest preset needs 65 MiB. */
const XZ_MEMORY = "--memlimit-decompress=256MiB";
const XZ_WORDS_BYTES = 4096;

/** xz has no codec in Node: the host's tool does it. */
const unpackXz = async (source: AsyncIterable<Uint8Array>, write: Sink, from: Pick<Spooling, "name" | "signal">): Promise<void> => {
  const child = spawn("xz", ["--decompress", "--stdout", XZ_MEMORY], { stdio: ["pipe", "pipe", "pipe"] });
  const ended = endOf(child);
  const stop = (error: unknown): never => {
    child.kill("SIGKILL");
    throw error;
  };
  const feeding = pipeline(source, child.stdin, { signal: from.signal }).catch(stop);
  const draining = write(child.stdout).catch(stop);
  try {
    const [end, fed, drained] = await Promise.allSettled([ended, feeding, draining]);
    from.signal.throwIfAborted();
    if (end.status === "rejected") throw xzMissing(from.name, end.reason);
    if (drained.status === "rejected") throw drained.reason;
    // a source that fails is what xz sees as a cut; a pipe that xz has left is what it says itself
    if (fed.status === "rejected" && !hasErrno(fed.reason, "EPIPE", "ECONNRESET", "ERR_STREAM_PREMATURE_CLOSE")) throw fed.reason;
    if (end.value.exitCode !== null && end.value.exitCode > 0) {
      throw archiveError(from.name, `its xz is damaged or cut off: ${end.value.words || "xz failed"}`);
    }
    if (fed.status === "rejected") throw fed.reason;
  } finally {
    child.kill("SIGKILL");
  }
};

const xzMissing = (name: string, cause: unknown): KilnError =>
  new KilnError("HOST_TOOL_MISSING", `${name}: it is packed with xz, and the program xz cannot be run`, {
    cause,
    object: name,
    hint: "install it with `apt-get install xz-utils`, or unpack the archive elsewhere",
  });

/** Rejects if it could not be started. */
const endOf = (child: ChildProcessByStdio<Writable, Readable, Readable>): Promise<{ exitCode: number | null; words: string }> =>
  new Promise((resolve, reject) => {
    let words = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (words = `${words}${text}`.slice(0, XZ_WORDS_BYTES)));
    child.once("error", reject);
    child.once("close", (exitCode) => resolve({ exitCode, words: words.trim() }));
  });
