import { mkdir, statfs } from "node:fs/promises";
import { KilnError } from "@kiln/protocol";
import { CONTENT_LIMITS } from "./limits.ts";

/**
 * Refuses what cannot fit before the disk is full: `bytes` more, and the reserve that keeps records writable.
 * Throws DISK_FULL with both figures.
 */
export const requireRoom = async (
  directory: string,
  wanted: { readonly bytes: number; readonly what: string; readonly object?: string },
): Promise<void> => {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const { bavail, bsize } = await statfs(directory);
  const [free, needed] = [bavail * bsize, wanted.bytes + CONTENT_LIMITS.reserveBytes];
  if (needed <= free) return;
  throw new KilnError(
    "DISK_FULL",
    `there is no room for ${wanted.what}: it takes at least ${mebibytes(wanted.bytes)}, ${mebibytes(CONTENT_LIMITS.reserveBytes)} stay free, and ${mebibytes(free)} are left`,
    wanted.object === undefined ? {} : { object: wanted.object },
  );
};

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
