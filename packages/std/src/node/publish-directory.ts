import { dirname } from "node:path";
import { hasCode } from "./errno.ts";
import { failpoint } from "./failpoints.ts";
import { nodeFiles, type PublishingDirectories } from "./publishing-files.ts";
import { PUBLISH_POINTS, TargetExistsError } from "./staging.ts";

export interface PublishDirectoryOptions {
  /** The final name. Its parent exists. */
  readonly target: string;
  /** An existing directory on the same file system. */
  readonly stagingDir: string;
  /** Fills the empty staged directory (mode 0700) with at least one entry. */
  readonly write: (dir: string) => Promise<void>;
  /** As for a file; a directory cannot be replaced atomically. */
  readonly ifExists: "keep" | "fail";
  readonly signal?: AbortSignal;
}

/**
 * publishFile for a directory: every file and directory in it is synced, then it gets its name by rename(2),
 * which refuses a name that a directory with entries has; hence an empty one is not published. `published` is
 * false if another's directory was kept. Nothing is left in the staging directory on failure or abort.
 */
export function publishDirectory(options: PublishDirectoryOptions): Promise<{ published: boolean }> {
  return publishDirectoryOn(nodeFiles, options);
}

/** publishDirectory on another file system. */
export async function publishDirectoryOn(files: PublishingDirectories, options: PublishDirectoryOptions): Promise<{ published: boolean }> {
  const { target, stagingDir, write, ifExists, signal } = options;
  signal?.throwIfAborted();
  await using cleanup = new AsyncDisposableStack();
  const path = files.stagingPath(stagingDir);
  cleanup.defer(() => files.discard(path));
  await files.makeDirectory(path);

  await write(path);
  await failpoint(PUBLISH_POINTS.written);
  if (await files.isEmpty(path)) throw new Error(`the directory to publish as ${target} is empty`);
  await files.syncTree(path);
  await failpoint(PUBLISH_POINTS.staged);
  signal?.throwIfAborted();

  const taken = await renameUnlessTaken(files, path, target);
  if (taken !== null && (ifExists === "fail" || (await files.kindAt(target)) !== "directory")) throw taken;
  await failpoint(PUBLISH_POINTS.named);
  await files.syncDirectory(dirname(target));
  return { published: taken === null };
}

/** rename(2) replaces an empty directory, so a look at the name comes first; entries make the rename itself refuse. */
async function renameUnlessTaken(files: PublishingDirectories, path: string, target: string): Promise<TargetExistsError | null> {
  if ((await files.kindAt(target)) !== null) return new TargetExistsError(target);
  try {
    await files.rename(path, target);
    return null;
  } catch (error) {
    if (hasCode(error, "EEXIST", "ENOTEMPTY", "ENOTDIR") && (await files.kindAt(target)) !== null) {
      return new TargetExistsError(target, { cause: error });
    }
    throw error;
  }
}
