import { createHash } from "node:crypto";
import { createReadStream, readSync } from "node:fs";
import { open, stat } from "node:fs/promises";
import { Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createGunzip, createZstdDecompress } from "node:zlib";
import type { Gunzip, ZstdDecompress } from "node:zlib";
import { type ByteSource, Ext4Reader, Ext4ReadError, ext4ToTar } from "@kiln/formats/ext4";
import { hasCode } from "@kiln/std/node";
import { FilePieces } from "./file-pieces.ts";
import { READ_LIMITS } from "./limits.ts";

export type LayerEncoding = "tar" | "tar+gzip" | "tar+zstd" | "ext4";

/** One layer of an image, as it lies on the disk. */
export interface LayerSource {
  readonly path: string;
  readonly mediaType: LayerEncoding;
  /** "sha256:…" of the uncompressed tar, or of the file system. */
  readonly diffId: string;
}

/** The uncompressed tar is not what the image's config says. */
export class DiffIdError extends Error {
  override readonly name = "DiffIdError";

  constructor(expected: string, found: string) {
    super(`the uncompressed layer is ${found}, not ${expected}`);
  }
}

/** The layers unpack to more than is allowed. */
export class ExpansionError extends Error {
  override readonly name = "ExpansionError";
}

/** Something follows what is compressed. Readers differ on it: containerd and docker refuse the layer, other tools leave the rest out. */
export class TrailingBytesError extends Error {
  override readonly name = "TrailingBytesError";

  constructor(options?: ErrorOptions) {
    super("bytes follow the end of the compressed layer", options);
  }
}

const decoder = (encoding: Exclude<LayerEncoding, "ext4">): Gunzip | ZstdDecompress | null => {
  const options = { chunkSize: READ_LIMITS.chunkBytes, readableHighWaterMark: READ_LIMITS.aheadBytes, writableHighWaterMark: 1 };
  switch (encoding) {
    case "tar":
      return null;
    case "tar+gzip":
      return createGunzip(options);
    case "tar+zstd":
      return createZstdDecompress({ ...options, params: { [constants.ZSTD_d_windowLogMax]: READ_LIMITS.zstdWindowLog } });
  }
};

/** Decodes all members or frames. Node stops at zeros, and at what is no zstd frame, and leaves the rest unread. */
const unpack = async (file: FilePieces, decoder: Gunzip | ZstdDecompress, sink: Writable): Promise<void> => {
  try {
    await pipeline(file, decoder, sink);
  } catch (error) {
    // a member behind zeros, in another chunk than they
    if (hasCode(error, "ERR_STREAM_PUSH_AFTER_EOF")) throw new TrailingBytesError({ cause: error });
    throw error;
  }
  if (decoder.bytesWritten !== file.bytesRead) throw new TrailingBytesError();
};

/**
 * A decoder fills one buffer of `chunkBytes` after the other and hands on views of them in their order: what reaches the end of one is the
 * last. Its memory goes back at once; left to the collector, garbage would be most of what the build takes. A buffer of another size is
 * not the decoder's own (small ones share theirs) and stays.
 */
const release = ({ buffer, byteOffset, byteLength }: Buffer): void => {
  const isOwn = buffer instanceof ArrayBuffer && buffer.byteLength === READ_LIMITS.chunkBytes;
  if (isOwn && byteOffset + byteLength === buffer.byteLength) buffer.transfer(0);
};

/**
 * Hands chunks on from the event loop's next turn, so that the decoder, in its own thread, is already at the next chunk meanwhile.
 * What `write` throws destroys the stream.
 */
const consumer = (write: (chunk: Buffer) => void, { aheadBytes, owned }: { aheadBytes: number; owned: boolean }): Writable =>
  new Writable({
    highWaterMark: aheadBytes,
    write: (chunk: Buffer, _encoding, done) => {
      setImmediate(() => {
        try {
          write(chunk);
          if (owned) release(chunk);
        } catch (error) {
          return done(error instanceof Error ? error : new Error(String(error)));
        }
        return done();
      });
    },
  });

export interface ReadLayerOptions {
  /** Takes the uncompressed bytes; they are only valid during the call. */
  readonly write: (chunk: Uint8Array) => void;
  /** Called with how many more bytes of the file were read. */
  readonly onRead: (bytes: number) => void;
  /** Shared by all layers of a build: what may still be unpacked. */
  readonly budget: { unpackedBytes: number; readonly maxBytes: number };
  /** How many times its size a layer may unpack to, and what it may however small it is. */
  readonly expansion: { readonly maxRatio: number; readonly freeBytes: number };
}

/** Counts what a layer of `size` bytes unpacks to against the limits. */
const spendFrom = ({ budget, expansion: { maxRatio, freeBytes } }: ReadLayerOptions, size: number): ((bytes: number) => void) => {
  const layerBytes = Math.max(freeBytes, size * maxRatio);
  let left = layerBytes;
  return (bytes) => {
    budget.unpackedBytes += bytes;
    left -= bytes;
    if (budget.unpackedBytes > budget.maxBytes) throw new ExpansionError(`the layers unpack to more than ${budget.maxBytes} bytes`);
    if (left < 0) throw new ExpansionError(`${size} bytes unpack to more than ${layerBytes} bytes, and ${maxRatio} times as many`);
  };
};

/**
 * Reads a layer to its end, hands on what it unpacks to, and checks that against the layer's diff id.
 * Throws DiffIdError, ExpansionError, TrailingBytesError, the errors of node:zlib and of the file system, and what `write` throws.
 */
export const readLayer = async (layer: LayerSource, options: ReadLayerOptions): Promise<void> => {
  if (layer.mediaType === "ext4") return readFileSystem(layer, options);
  const hash = createHash("sha256");
  const { size } = await stat(layer.path);
  const file = new FilePieces(layer.path);
  const spend = spendFrom(options, size);
  let reported = 0;
  const report = (minimum: number): void => {
    if (file.bytesRead - reported < minimum) return;
    options.onRead(file.bytesRead - reported);
    reported = file.bytesRead;
  };
  const write = (chunk: Buffer): void => {
    spend(chunk.length);
    hash.update(chunk);
    options.write(chunk);
    report(READ_LIMITS.progressBytes);
  };
  const unpacked = decoder(layer.mediaType);
  const sink = consumer(write, unpacked === null ? { aheadBytes: 1, owned: false } : { aheadBytes: READ_LIMITS.aheadBytes, owned: true });
  await (unpacked === null ? pipeline(file, sink) : unpack(file, unpacked, sink));
  report(1);
  const found = `sha256:${hash.digest("hex")}`;
  if (found !== layer.diffId) throw new DiffIdError(layer.diffId, found);
};

/** A file system below other layers, as the tar that it would be. It has been hashed before anything of it is believed. */
const readFileSystem = async (layer: LayerSource, options: ReadLayerOptions): Promise<void> => {
  const { size } = await stat(layer.path);
  const spend = spendFrom(options, size);
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(layer.path, { highWaterMark: READ_LIMITS.fileBytes })) hash.update(chunk as Buffer);
  const found = `sha256:${hash.digest("hex")}`;
  if (found !== layer.diffId) throw new DiffIdError(layer.diffId, found);
  await using file = await open(layer.path);
  for (const chunk of ext4ToTar(Ext4Reader.open(readAt(file.fd, size)))) {
    spend(chunk.length);
    options.write(chunk);
  }
  options.onRead(size);
};

const readAt = (fd: number, sizeBytes: number): ByteSource => ({
  sizeBytes,
  read: (offset, length) => {
    const bytes = Buffer.allocUnsafeSlow(length);
    for (let done = 0; done < length;) {
      const count = readSync(fd, bytes, done, length - done, offset + done);
      if (count === 0) throw new Ext4ReadError("MEDIUM", `the layer ended before byte ${offset + length}`);
      done += count;
    }
    return bytes;
  },
});
