import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createZstdDecompress, type ZstdDecompress } from "node:zlib";
import { rawNameText, type TarEntry, TarError, TarParser } from "@kiln/formats/tar";
import { KilnError } from "@kiln/protocol";
import { BUNDLE_LIMITS } from "./entries.ts";

export type BundlePart =
  | { readonly type: "entry"; readonly entry: TarEntry }
  | { readonly type: "data"; readonly bytes: Uint8Array }
  | { readonly type: "hole"; readonly lengthBytes: number }
  | { readonly type: "end" };

export const invalid = (message: string, cause?: unknown): KilnError =>
  new KilnError("BUNDLE_INVALID", `this is no bundle: ${message}`, { cause });

/** node:zlib's codes: ZSTD_error_prefix_unknown, Z_BUF_ERROR of a stream that is cut off, ERR_… */
const isZlibError = (error: unknown): error is Error =>
  error instanceof Error &&
  "code" in error &&
  /^(Z_|ZSTD_|ERR_ZSTD|ERR_BUFFER_TOO_LARGE|ERR__ERROR|ERR_STREAM_PUSH)/.test(String(error.code));

/** Unpacks and parses what comes, in step with who takes it. Throws BUNDLE_INVALID, and what the source throws. */
export async function* bundleParts(source: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<BundlePart, void> {
  let takenBytes = 0;
  const counted = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of source) {
      takenBytes += chunk.length;
      yield chunk;
    }
  };
  const unpacked = createZstdDecompress({ params: { [constants.ZSTD_d_windowLogMax]: BUNDLE_LIMITS.zstdWindowLog } });
  const running = pipeline(Readable.from(counted(), { objectMode: true, highWaterMark: 1 }), unpacked, { signal });
  try {
    yield* parsed(unpacked);
    await running;
    if (takenBytes !== unpacked.bytesWritten) throw invalid("something follows its end");
  } catch (error) {
    if (takenBytes === 0 && isZlibError(error)) throw invalid("it is empty", error);
    if (isZlibError(error)) throw invalid(`it is not packed by zstd, or is cut off (${error.message})`, error);
    throw error instanceof TarError ? invalid(error.message, error) : error;
  } finally {
    unpacked.destroy();
    await Promise.allSettled([running]);
  }
}

async function* parsed(unpacked: ZstdDecompress): AsyncGenerator<BundlePart, void> {
  const parts: BundlePart[] = [];
  let tail: number | null = null;
  const parser = new TarParser({
    entry: (entry) => {
      if (entry.type !== "file" || entry.xattrs.size > 0) throw invalid(`${rawNameText(entry.path)} is a ${entry.type}, or has attributes`);
      parts.push({ type: "entry", entry });
      return true;
    },
    data: (bytes) => void parts.push({ type: "data", bytes }),
    hole: (lengthBytes) => void parts.push({ type: "hole", lengthBytes }),
    end: () => void parts.push({ type: "end" }),
  });
  let entries = 0;
  for await (const chunk of unpacked) {
    parser.write(chunk as Uint8Array);
    // what comes behind the last entry is nobody's: a tar's end, and no more
    if (tail !== null && (tail += (chunk as Uint8Array).length) > BUNDLE_LIMITS.endBytes) throw invalid("bytes follow its last entry");
    for (const part of parts.splice(0)) {
      if (part.type === "end" && (entries += 1) === 3) tail = 0;
      yield part;
    }
  }
  parser.end();
}
