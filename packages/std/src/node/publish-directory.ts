import { lstat, mkdir, rename, readdir } from "node:fs/promises";
import { dirname } from "node:path";
import { hasCode } from "./errno.ts";
import { failpoint } from "./failpoints.ts";
import { fsyncDirectory, fsyncTree } from "./fsync.ts";
import { discardStaged, PUBLISH_POINTS, stagingPath, TargetExistsError } from "./staging.ts";

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
export async function publishDirectory(options: PublishDirectoryOptions): Promise<{ published: boolean }> {
  const { target, stagingDir, write, ifExists, signal } = options;
  signal?.throwIfAborted();
  await using cleanup = new AsyncDisposableStack();
  const path = stagingPath(stagingDir);
  cleanup.defer(() => discardStaged(path));
  await mkdir(path, { mode: 0o700 });

  await write(path);
  await failpoint(PUBLISH_POINTS.written);
  if ((await readdir(path)).length === 0) throw new Error(`the directory to publish as ${target} is empty`);
  await fsyncTree(path);
  await failpoint(PUBLISH_POINTS.staged);
  signal?.throwIfAborted();

  const taken = await renameUnlessTaken(path, target);
  if (taken !== null && (ifExists === "fail" || !(await isDirectory(target)))) throw taken;
  await failpoint(PUBLISH_POINTS.named);
  await fsyncDirectory(dirname(target));
  return { published: taken === null };
}

/** rename(2) replaces an empty directory, so a look at the name comes first; entries make the rename itself refuse. */
async function renameUnlessTaken(path: string, target: string): Promise<TargetExistsError | null> {
  if (await isThere(target)) return new TargetExistsError(target);
  try {
    await rename(path, target);
    return null;
  } catch (error) {
    if (hasCode(error, "EEXIST", "ENOTEMPTY", "ENOTDIR") && (await isThere(target))) {
      return new TargetExistsError(target, { cause: error });
    }
    throw error;
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (hasCode(error, "ENOENT")) return false;
    throw error;
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return (await lstat(path)).isDirectory();
}
