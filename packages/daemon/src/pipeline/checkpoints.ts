/** Places between two steps where a test can end the daemon: after the one has happened, before the other is known. */
export const CHECKPOINTS = [
  "image.fetched",
  "rootfs.begun",
  "rootfs.published",
  "kernel.begun",
  "kernel.published",
  "start.reserved",
  "start.booted",
  "start.connected",
  "start.commanded",
  "delete.marked",
  "delete.cleaned",
] as const;
export type CheckpointName = (typeof CHECKPOINTS)[number];

/** Nothing, except where a test said otherwise. */
export type Checkpoint = (name: CheckpointName) => Promise<void>;
