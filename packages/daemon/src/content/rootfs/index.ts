/** Rootfs images from layers, and empty writable disks. */
export { buildRootfs } from "./build-rootfs.ts";
export type { BuildRootfsOptions, BuildRootfsRequest } from "./build-rootfs.ts";
export { createEmptyDisk } from "./create-empty-disk.ts";
export type { EmptyDiskRequest } from "./create-empty-disk.ts";
export type { LayerEncoding, LayerSource } from "./layer-stream.ts";
export type { BuiltRootfs } from "./messages.ts";
export { ROOTFS_LIMITS } from "./limits.ts";
export type { RootfsLimits } from "./limits.ts";
