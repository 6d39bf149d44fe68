import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { Writable } from "node:stream";
import type { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createGunzip, createZstdDecompress } from "node:zlib";
import { READ_LIMITS } from "./limits.ts";

export type LayerEncoding = "tar" | "tar+gzip" | "tar+zstd";

/** One layer of an image, as it lies on the disk. */
export interface LayerSource {
  readonly path: string;
  readonly mediaType: LayerEncoding;
  /** "sha256:…" of the uncompressed tar. */
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

  constructor(maxBytes: number) {
    super(`the layers unpack to more than ${maxBytes} bytes`);
  }
}

const decoder = (encoding: LayerEncoding): Transform | null => {
  const options = { chunkSize: READ_LIMITS.chunkBytes, readableHighWaterMark: READ_LIMITS.aheadBytes };
  switch (encoding) {
    case "tar":
      return null;
    case "tar+gzip":
      return createGunzip(options);
    case "tar+zstd":
      return createZstdDecompress({ ...options, params: { [constants.ZSTD_d_windowLogMax]: READ_LIMITS.zstdWindowLog } });
  }
};

/**
 * Hands chunks on from the event loop's next turn, so that the decoder, in its own thread, is already at the next chunk meanwhile.
 * What `write` throws destroys the stream.
 */
const consumer = (write: (chunk: Buffer) => void): Writable =>
  new Writable({
    highWaterMark: READ_LIMITS.aheadBytes,
    write: (chunk: Buffer, _encoding, done) => {
      setImmediate(() => {
        try {
          write(chunk);
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
}

/**
 * Reads a layer to its end, hands on what it unpacks to, and checks that against the layer's diff id.
 * Throws DiffIdError, ExpansionError, the errors of node:zlib and of the file system, and what `write` throws.
 */
export const readLayer = async (layer: LayerSource, options: ReadLayerOptions): Promise<void> => {
  const hash = createHash("sha256");
  const file = createReadStream(layer.path, { highWaterMark: READ_LIMITS.fileBytes });
  let reported = 0;
  const report = (minimum: number): void => {
    if (file.bytesRead - reported < minimum) return;
    options.onRead(file.bytesRead - reported);
    reported = file.bytesRead;
  };
  const sink = consumer((chunk) => {
    options.budget.unpackedBytes += chunk.length;
    if (options.budget.unpackedBytes > options.budget.maxBytes) throw new ExpansionError(options.budget.maxBytes);
    hash.update(chunk);
    options.write(chunk);
    report(READ_LIMITS.progressBytes);
  });
  const unpacked = decoder(layer.mediaType);
  await (unpacked === null ? pipeline(file, sink) : pipeline(file, unpacked, sink));
  report(1);
  const found = `sha256:${hash.digest("hex")}`;
  if (found !== layer.diffId) throw new DiffIdError(layer.diffId, found);
};
