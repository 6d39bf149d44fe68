/**
 * Writing ext4 file systems directly: an image from layer tars (`LayeredImage`) and an empty disk with a journal (`writeEmptyExt4`).
 * Reading them, of any origin and in bounded time and memory (`Ext4Reader`), and as layer tars (`ext4ToTar`, `overlayUpperToTar`).
 * Bytes in, bytes out: a `Sink` takes what is written, a `ByteSource` gives what is read. Everything is a pure function of its input.
 */
export { LayeredImage } from "./layers/layered-image.ts";
export type { ImageLimits, ImageOptions, LayerInput } from "./layers/layered-image.ts";
export { writeEmptyExt4 } from "./empty/empty-disk.ts";
export type { EmptyDiskOptions } from "./empty/empty-disk.ts";
export { imagePlace, PLACE_HEAD_BYTES } from "./place.ts";
export { Ext4Error } from "./errors.ts";
export type { Ext4ErrorCode } from "./errors.ts";
export type { FileSystemIdentity } from "./disk/superblock.ts";
export type { ImageSummary } from "./write/finish.ts";
export type { Sink } from "./sink.ts";
export * from "./read/index.ts";

/** Part of every key of an image: changes whenever the same input would give other bytes. */
export const WRITER_VERSION = 3;
