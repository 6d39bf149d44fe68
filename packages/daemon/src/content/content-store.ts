import { createHash, type Hash } from "node:crypto";
import { link, lstat, mkdir, open, opendir, rename, rm, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { type Digest, digestHex, errnoOf, isDigest, KilnError } from "@kiln/protocol";
import { randomHex, systemRandom } from "@kiln/std";
import { fsyncDirectory, hasCode, publishFile, removeFileNow } from "@kiln/std/node";
import type { ContentInfo, ContentLease, ContentShelf, ExpectedContent, OpenContent } from "../images/ports.ts";
import { CONTENT_LIMITS } from "./limits.ts";
import { requireRoom } from "./room.ts";

/** Guests and people only ever read a blob. */
const BLOB_MODE = 0o444;

/** Blobs as files `<directory>/sha256/<64 hex digits>`: one that has its name is whole. Both directories are on one file system. */
export class ContentStore implements ContentShelf {
  readonly #directory: string;
  readonly #stagingDir: string;

  constructor(options: { readonly directory: string; readonly stagingDir: string }) {
    this.#directory = join(options.directory, "sha256");
    this.#stagingDir = options.stagingDir;
  }

  path(digest: Digest): string {
    return join(this.#directory, digestHex(digest));
  }

  async stat(digest: Digest): Promise<ContentInfo | null> {
    try {
      const stats = await lstat(this.path(digest));
      return stats.isFile() ? { digest, size: stats.size } : null;
    } catch (error) {
      if (hasCode(error, "ENOENT")) return null;
      throw error;
    }
  }

  async has(digest: Digest): Promise<boolean> {
    return (await this.stat(digest)) !== null;
  }

  requireRoom(bytes: number, what: string): Promise<void> {
    return requireRoom(this.#stagingDir, { bytes, what, object: what });
  }

  async ingest(
    source: AsyncIterable<Uint8Array>,
    options: { expected: ExpectedContent; isSparse?: boolean; signal: AbortSignal },
  ): Promise<ContentInfo> {
    const { expected, signal, isSparse = false } = options;
    const present = await this.stat(expected.digest);
    const intake = new Intake(source, expected, signal);
    if (present !== null && (expected.size ?? present.size) === present.size && (await this.#isStillWhole(expected.digest, signal))) {
      await intake.drain();
      return present;
    }
    return mapDiskFull(expected.digest, async () => {
      await this.#makeDirectories();
      if (expected.size !== null && !isSparse)
        await requireRoom(this.#stagingDir, { bytes: expected.size, what: expected.digest, object: expected.digest });
      const published = await publishFile({
        target: this.path(expected.digest),
        stagingDir: this.#stagingDir,
        mode: BLOB_MODE,
        // what is there under this name is damaged
        ifExists: present === null ? "keep" : "replace",
        signal,
        write: async (file) => void (await intake.writeTo(file, this.#room(expected.digest))),
      });
      return { digest: expected.digest, size: published.size };
    });
  }

  async ingestUnnamed(source: AsyncIterable<Uint8Array>, options: { lease: ContentLease; signal: AbortSignal }): Promise<ContentInfo> {
    const intake = new Intake(source, null, options.signal);
    return mapDiskFull("new content", async () => {
      await this.#makeDirectories();
      const staged = join(this.#stagingDir, `${process.pid}.${randomHex(systemRandom, 12)}.blob`);
      await using cleanup = new AsyncDisposableStack();
      cleanup.defer(() => rm(staged, { force: true }));
      const infos: ContentInfo[] = [];
      await publishFile({
        target: staged,
        stagingDir: this.#stagingDir,
        mode: BLOB_MODE,
        ifExists: "fail",
        signal: options.signal,
        write: async (file) => void infos.push(await intake.writeTo(file, this.#room("new content"))),
      });
      const [info] = infos;
      if (info === undefined) throw new KilnError("INTERNAL", "a blob was published without having been read");
      options.lease.hold(info.digest);
      const isNew = await linkUnlessThere(staged, this.path(info.digest));
      if (!isNew && !(await this.#isStillWhole(info.digest, options.signal))) await rename(staged, this.path(info.digest));
      await fsyncDirectory(this.#directory);
      return info;
    });
  }

  /** How much a blob needs is not always known before: room is looked for as it grows, so that it does not take the last of it. */
  #room(what: string): (bytes: number) => Promise<void> {
    let allowedBytes = 0;
    return async (bytes) => {
      if (bytes > allowedBytes) {
        allowedBytes = CONTENT_LIMITS.betweenLooksBytes;
        await requireRoom(this.#stagingDir, { bytes: Math.min(bytes, allowedBytes), what, object: what });
      }
      allowedBytes -= bytes;
    };
  }

  async open(digest: Digest): Promise<OpenContent> {
    const file = await this.#openFile(digest);
    const { size } = await file.stat();
    return {
      size,
      stream: (options) => readChunks(file, size, options.signal),
      [Symbol.asyncDispose]: () => file.close(),
    };
  }

  async read(digest: Digest, options: { limitBytes: number; signal: AbortSignal }): Promise<Uint8Array> {
    await using content = await this.open(digest);
    if (content.size > options.limitBytes) {
      throw new KilnError("IMAGE_INVALID", `${digest} has ${content.size} bytes, more than the ${options.limitBytes} it may have`, {
        object: digest,
      });
    }
    const chunks: Uint8Array[] = [];
    for await (const chunk of content.stream(options)) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  /** Reads the whole blob: whether it still is what its name says (I7). */
  async verify(digest: Digest, options: { signal: AbortSignal }): Promise<boolean> {
    await using content = await this.open(digest);
    const hash = createHash("sha256");
    for await (const chunk of content.stream(options)) hash.update(chunk);
    return digestOf(hash) === digest;
  }

  /** For what is sent again: a blob that a disk has damaged gives way to it. */
  async #isStillWhole(digest: Digest, signal: AbortSignal): Promise<boolean> {
    try {
      return await this.verify(digest, { signal });
    } catch (error) {
      if (error instanceof KilnError && (error.code === "IMAGE_CONTENT_MISSING" || error.code === "ARTIFACT_DAMAGED")) return false;
      throw error;
    }
  }

  async remove(digest: Digest): Promise<boolean> {
    const isThere = await this.has(digest);
    await rm(this.path(digest), { force: true });
    return isThere;
  }

  removeNow(digest: Digest): number {
    return removeFileNow(this.path(digest));
  }

  async *list(): AsyncGenerator<ContentInfo> {
    await this.#makeDirectories();
    for await (const entry of await opendir(this.#directory)) {
      const digest = `sha256:${entry.name}`;
      const info = isDigest(digest) ? await this.stat(digest) : null;
      if (info !== null) yield info;
    }
  }

  async #openFile(digest: Digest): Promise<FileHandle> {
    try {
      return await open(this.path(digest));
    } catch (error) {
      if (!hasCode(error, "ENOENT")) throw error;
      throw new KilnError("IMAGE_CONTENT_MISSING", `${digest} is not in the content store`, { cause: error, object: digest });
    }
  }

  async #makeDirectories(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await mkdir(this.#stagingDir, { recursive: true, mode: 0o700 });
  }
}

/** One pass over a source: counts, hashes, and refuses what is not as expected. */
class Intake {
  readonly #source: AsyncIterable<Uint8Array>;
  readonly #expected: ExpectedContent | null;
  readonly #signal: AbortSignal;
  readonly #hash = createHash("sha256");
  #size = 0;

  constructor(source: AsyncIterable<Uint8Array>, expected: ExpectedContent | null, signal: AbortSignal) {
    this.#source = source;
    this.#expected = expected;
    this.#signal = signal;
  }

  async writeTo(file: FileHandle, room: (bytes: number) => Promise<void>): Promise<ContentInfo> {
    let position = 0;
    const info = await this.#take(async (chunk) => {
      for (let at = 0; at < chunk.length; at += HOLE_BYTES) {
        const piece = chunk.subarray(at, at + HOLE_BYTES);
        // what a file system does not use stays a hole
        if (!isZero(piece)) {
          await room(piece.length);
          await writeAll(file, piece, position);
        }
        position += piece.length;
      }
    });
    await file.truncate(info.size);
    return info;
  }

  async drain(): Promise<ContentInfo> {
    return this.#take(() => Promise.resolve());
  }

  async #take(consume: (chunk: Uint8Array) => Promise<void>): Promise<ContentInfo> {
    const limit = this.#expected?.size ?? CONTENT_LIMITS.blobBytes;
    for await (const chunk of this.#source) {
      this.#signal.throwIfAborted();
      this.#size += chunk.length;
      if (this.#size > limit) throw this.#sizeMismatch(`has more than ${limit} bytes`);
      this.#hash.update(chunk);
      await consume(chunk);
    }
    this.#signal.throwIfAborted();
    return this.#result();
  }

  #result(): ContentInfo {
    const expected = this.#expected;
    if (expected !== null && expected.size !== null && expected.size !== this.#size) {
      throw this.#sizeMismatch(`ended after ${this.#size} of ${expected.size} bytes`);
    }
    const digest = digestOf(this.#hash);
    if (expected !== null && expected.digest !== digest) {
      throw new KilnError("CONTENT_DIGEST_MISMATCH", `the bytes that came as ${expected.digest} are ${digest}`, {
        object: expected.digest,
      });
    }
    return { digest, size: this.#size };
  }

  #sizeMismatch(what: string): KilnError {
    const name = this.#expected?.digest ?? "new content";
    return new KilnError("CONTENT_SIZE_MISMATCH", `${name} ${what}`, { object: name });
  }
}

/** Zeros are looked for in pieces of this size: fewer calls than by blocks, and little is missed of what matters. */
const HOLE_BYTES = 2 ** 16;
const ZEROS = Buffer.alloc(HOLE_BYTES);

const isZero = (piece: Uint8Array): boolean => piece[0] === 0 && ZEROS.compare(piece, 0, piece.length, 0, piece.length) === 0;

const writeAll = async (file: FileHandle, bytes: Uint8Array, position: number): Promise<void> => {
  for (let done = 0; done < bytes.length;) {
    done += (await file.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
};

const digestOf = (hash: Hash): Digest => {
  const digest = `sha256:${hash.digest("hex")}`;
  if (!isDigest(digest)) throw new KilnError("INTERNAL", `${digest} is not a digest`);
  return digest;
};

const readChunks = async function* (file: FileHandle, size: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for (let position = 0; position < size;) {
    signal.throwIfAborted();
    const buffer = new Uint8Array(Math.min(CONTENT_LIMITS.readBytes, size - position));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
    if (bytesRead === 0) throw new KilnError("ARTIFACT_DAMAGED", `a blob ended after ${position} of ${size} bytes`);
    position += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
};

const linkUnlessThere = async (from: string, to: string): Promise<boolean> => {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
    return false;
  }
};

const mapDiskFull = async <Result>(what: string, run: () => Promise<Result>): Promise<Result> => {
  try {
    return await run();
  } catch (error) {
    const code = error instanceof KilnError ? null : errnoOf(error);
    if (code !== "ENOSPC" && code !== "EDQUOT") throw error;
    throw new KilnError("DISK_FULL", `there is no room to store ${what}`, { cause: error, object: what });
  }
};
