import { constants } from "node:fs";
import { copyFile, link, rename } from "node:fs/promises";
import { dirname } from "node:path";
import type { FileFingerprint } from "../file-fingerprint.ts";
import { hasCode } from "./errno.ts";
import { failpoint } from "./failpoints.ts";
import { fileFingerprint } from "./fingerprint.ts";
import { fsyncDirectory } from "./fsync.ts";
import { publishFile, type PublishTarget } from "./publish-file.ts";
import { discardStaged, PUBLISH_POINTS, stagingPath } from "./staging.ts";

/** Where a file has as many names as it can have, or the file system knows no further ones. */
const NO_LINKS = ["EMLINK", "EPERM", "EXDEV", "EOPNOTSUPP"] as const;

/**
 * Makes `path` a further name of the immutable file `source`, or where that cannot be a copy, which shares its blocks if the file
 * system can.
 */
export async function linkOrCopy(source: string, path: string): Promise<void> {
  try {
    await link(source, path);
  } catch (error) {
    if (!hasCode(error, ...NO_LINKS)) throw error;
    await copyFile(source, path, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  }
}

/**
 * publishFile for content that a whole and immutable file has already: `target` becomes a further name of it, and costs no room. What has
 * the name is replaced. Where no link can be made, it becomes a copy of mode `mode`.
 */
export async function publishLink(options: Omit<PublishTarget, "ifExists"> & { readonly source: string }): Promise<FileFingerprint> {
  const { source, target, stagingDir, signal } = options;
  signal?.throwIfAborted();
  await using cleanup = new AsyncDisposableStack();
  const path = stagingPath(stagingDir);
  cleanup.defer(() => discardStaged(path));
  try {
    await link(source, path);
  } catch (error) {
    if (!hasCode(error, ...NO_LINKS)) throw error;
    const write = async (_file: unknown, copy: string): Promise<void> => copyFile(source, copy, constants.COPYFILE_FICLONE);
    return await publishFile({ ...options, ifExists: "replace", write });
  }
  await failpoint(PUBLISH_POINTS.written);
  await failpoint(PUBLISH_POINTS.staged);
  signal?.throwIfAborted();
  await rename(path, target); // of two names of one file it keeps both: the staged one goes here
  await discardStaged(path);
  await failpoint(PUBLISH_POINTS.named);
  await fsyncDirectory(dirname(target));
  const fingerprint = await fileFingerprint(target);
  if (fingerprint === null) throw new Error(`${target} was removed while it was published`);
  return fingerprint;
}
