/** Places between two steps where a test can end the daemon: after the one has happened, before the other is known. */
export const CHECKPOINTS = [
  "image.fetched",
  "image.naming",
  "rootfs.begun",
  "rootfs.published",
  "check.begun",
  "rebuild.begun",
  "rebuild.published",
  "kernel.begun",
  "kernel.published",
  "customize.begun",
  "customize.booted",
  "customize.ran",
  "customize.stopped",
  "customize.packed",
  "customize.stored",
  "preboot.begun",
  "preboot.published",
  "start.booted",
  "start.connected",
] as const;

/** Nothing, except where a test said otherwise. Throws for a name that nobody declared: those above and the sagas' own. */
export type Checkpoint = (name: string) => Promise<void>;
