import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants as zlib, createZstdCompress } from "node:zlib";
import { encodeEntry, paddingAfter, TAR_END_BYTES } from "@kiln/formats/tar";
import { type BundleManifest, KilnError } from "@kiln/protocol";
import { readPiece } from "@kiln/std/node";
import { BUNDLE_LIMITS, MANIFEST_ENTRY, ROOTFS_ENTRY, SUMS_ENTRY, sumsText } from "./entries.ts";

interface Segment {
  readonly offset: number;
  readonly length: number;
}

/**
 * A bundle, piece by piece: the same manifest and file give the same bytes. The file is read twice: where it has data, and whether it is
 * what the manifest says, is known before the first byte goes out. Throws ARTIFACT_DAMAGED.
 */
export async function* writeBundle(manifest: BundleManifest, path: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  const segments = await findData(file, manifest, signal);
  const packed = createZstdCompress({
    params: { [zlib.ZSTD_c_compressionLevel]: BUNDLE_LIMITS.zstdLevel, [zlib.ZSTD_c_checksumFlag]: 1 },
  });
  const running = pipeline(Readable.from(tarOf(manifest, { file, segments }), { objectMode: true, highWaterMark: 1 }), packed, { signal });
  try {
    for await (const chunk of packed) yield chunk as Uint8Array;
    await running;
  } finally {
    packed.destroy();
    await Promise.allSettled([running]);
  }
}

/** The stretches of data of a file that is what the manifest says: by its bytes, not by how this disk holds them. */
const findData = async (file: FileHandle, { rootfs, reference }: BundleManifest, signal: AbortSignal): Promise<Segment[]> => {
  const hash = createHash("sha256");
  const segments: Segment[] = [];
  const buffer = Buffer.alloc(BUNDLE_LIMITS.readBytes);
  const zeros = Buffer.alloc(BUNDLE_LIMITS.holeBytes);
  let offset = 0;
  for (;;) {
    signal.throwIfAborted();
    const length = await readPiece(file, buffer, offset);
    hash.update(buffer.subarray(0, length));
    for (let at = 0; at < length; at += BUNDLE_LIMITS.holeBytes) {
      const piece = buffer.subarray(at, Math.min(at + BUNDLE_LIMITS.holeBytes, length));
      if (zeros.compare(piece, 0, piece.length, 0, piece.length) !== 0) addTo(segments, { offset: offset + at, length: piece.length });
    }
    offset += length;
    if (length < buffer.length) break;
  }
  const digest = `sha256:${hash.digest("hex")}`;
  if (digest === rootfs.digest && offset === rootfs.sizeBytes) return fewer(segments, BUNDLE_LIMITS.segments);
  throw new KilnError("ARTIFACT_DAMAGED", `the rootfs of ${reference} reads as ${digest}, and was published as ${rootfs.digest}`, {
    ...{ object: reference, hint: "build it again: `kiln image rebuild`" },
  });
};

/** No more of them than a tar's map may have: where there are, short holes are packed as the zeros that they are. The same file gives the same ones. */
export const fewer = (segments: Segment[], limit: number): Segment[] => {
  let found = segments;
  for (let holeBytes: number = BUNDLE_LIMITS.holeBytes; found.length > limit; holeBytes *= 2) {
    const joined: Segment[] = [];
    for (const next of found) {
      const last = joined.at(-1);
      if (last !== undefined && next.offset - last.offset - last.length <= holeBytes)
        joined[joined.length - 1] = { offset: last.offset, length: next.offset + next.length - last.offset };
      else joined.push(next);
    }
    found = joined;
  }
  return found;
};

/** Grows the last one where the next begins at its end. */
const addTo = (segments: Segment[], next: Segment): void => {
  const last = segments.at(-1);
  if (last !== undefined && last.offset + last.length === next.offset)
    segments[segments.length - 1] = { offset: last.offset, length: last.length + next.length };
  else segments.push(next);
};

const headOf = (path: string, sizeBytes: number, segments: readonly Segment[] | null): Buffer =>
  encodeEntry({
    ...{ type: "file", path, linkPath: "", mode: 0o644, uid: 0, gid: 0, sizeBytes, segments },
    ...{ modifiedAt: { seconds: 0, nanoseconds: 0 }, deviceMajor: 0, deviceMinor: 0, xattrs: new Map() },
  });

const whole = (path: string, bytes: Uint8Array): Buffer =>
  Buffer.concat([headOf(path, bytes.length, null), bytes, paddingAfter(bytes.length)]);

async function* tarOf(
  manifest: BundleManifest,
  { file, segments }: { file: FileHandle; segments: readonly Segment[] },
): AsyncGenerator<Uint8Array> {
  const text = Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`);
  yield whole(MANIFEST_ENTRY, text);
  const { digest, sizeBytes } = manifest.rootfs;
  yield headOf(ROOTFS_ENTRY, sizeBytes, segments);
  let stored = 0;
  for (const { offset, length } of segments) {
    for (let at = 0; at < length; at += BUNDLE_LIMITS.readBytes) {
      const piece = Buffer.allocUnsafe(Math.min(BUNDLE_LIMITS.readBytes, length - at));
      if ((await readPiece(file, piece, offset + at)) < piece.length)
        throw new KilnError("ARTIFACT_DAMAGED", `the rootfs of ${manifest.reference} became shorter while it was read`);
      yield piece;
    }
    stored += length;
  }
  yield paddingAfter(stored);
  const sums = { manifest: createHash("sha256").update(text).digest("hex"), rootfs: digest.slice("sha256:".length) };
  yield whole(SUMS_ENTRY, Buffer.from(sumsText(sums)));
  yield Buffer.alloc(TAR_END_BYTES);
}
