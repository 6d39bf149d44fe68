import type { FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import type { FileFingerprint } from "../file-fingerprint.ts";
import { hasCode } from "./errno.ts";
import { failpoint } from "./failpoints.ts";
import { nodeFiles, type PublishingFiles } from "./publishing-files.ts";
import { PUBLISH_POINTS, TargetExistsError } from "./staging.ts";

/**
 * What to do if the final name is taken: `keep` what is there and call it success (for names that say their
 * content), `replace` it atomically, or `fail` with TargetExistsError.
 */
export type IfExists = "keep" | "replace" | "fail";

export interface PublishTarget {
  /** The final name. Its directory exists. */
  readonly target: string;
  /** An existing directory on the same file system; whatever lies there without an owner may be swept. */
  readonly stagingDir: string;
  /** Permission bits, exact whatever the umask; by default 0600. */
  readonly mode?: number;
  readonly ifExists: IfExists;
  /** Looked at between the steps until the name is given; `write` and `verify` heed it themselves. */
  readonly signal?: AbortSignal;
}

export interface PublishFileOptions<Handle = FileHandle> extends PublishTarget {
  /** Fills the empty staged file, through the handle or by its path; it neither replaces the file nor closes the handle. */
  readonly write: (file: Handle, path: string) => Promise<void>;
  /** Throws if the staged file, written and synced, is not what it should be. */
  readonly verify?: (path: string, file: Handle) => Promise<void>;
}

export interface PublishedFile extends FileFingerprint {
  readonly path: string;
  /** False if another's file was kept. */
  readonly published: boolean;
}

/**
 * Gives `target` its content in one step: a name that exists is whole, whenever the process or the machine
 * dies. Staged under a unique name, written, synced, verified, then linked (`keep`, `fail`) or renamed
 * (`replace`) to its name, and the directory synced. Returns the fingerprint of the file that then has the name
 * (of a kept one whose publisher is still at it, ctime may change once more).
 * Whatever fails or aborts, nothing is left in the staging directory; only a killed process leaves a file there.
 * Throws what `write` or `verify` throw, the signal's reason, TargetExistsError, or a system error.
 */
export function publishFile(options: PublishFileOptions): Promise<PublishedFile> {
  return publishFileOn(nodeFiles, options);
}

/** publishFile on another file system. */
export async function publishFileOn<Handle extends AsyncDisposable>(
  files: PublishingFiles<Handle>,
  options: PublishFileOptions<Handle>,
): Promise<PublishedFile> {
  const { target, stagingDir, write, verify, signal } = options;
  signal?.throwIfAborted();
  await using cleanup = new AsyncDisposableStack();
  const path = files.stagingPath(stagingDir);
  cleanup.defer(() => files.discard(path));
  const file = cleanup.use(await files.create(path));

  await write(file, path);
  await failpoint(PUBLISH_POINTS.written);
  // a writer that put another file at the staged path would see the empty one published
  if (!(await files.isAt(file, path))) throw new Error(`the staged file ${path} was replaced while it was written`);
  await files.chmod(file, options.mode ?? 0o600);
  await files.sync(file);
  await verify?.(path, file);
  await failpoint(PUBLISH_POINTS.staged);
  signal?.throwIfAborted();

  const kept = await nameIt(files, path, options);
  await files.discard(path);
  await failpoint(PUBLISH_POINTS.named);
  await files.syncDirectory(dirname(target));
  const fingerprint = kept ?? (await files.fingerprintOf(file));
  return { path: target, published: kept === null, ...fingerprint };
}

/** publishFile for content that is in memory; text is written as UTF-8. */
export async function publishBytes(options: PublishTarget & { readonly bytes: Uint8Array | string }): Promise<PublishedFile> {
  const { bytes, ...target } = options;
  return publishFile({ ...target, write: (file) => file.writeFile(bytes) });
}

/** How often a name may be taken and free again between two looks before something else is wrong. */
const NAMING_ATTEMPTS = 100;

type Names = Pick<PublishingFiles, "link" | "rename" | "fingerprintAt">;

/** Gives the staged file its final name. Returns the fingerprint of the file that was kept instead, or null. */
async function nameIt(files: Names, path: string, { target, ifExists }: PublishTarget): Promise<FileFingerprint | null> {
  if (ifExists === "replace") {
    await files.rename(path, target);
    return null;
  }
  for (let attempt = 1; ; attempt += 1) {
    const taken = await linkUnlessTaken(files, path, target);
    if (taken === null) return null;
    if (ifExists === "fail") throw taken;
    const kept = await files.fingerprintAt(target);
    if (kept !== null) return kept;
    if (attempt === NAMING_ATTEMPTS) throw taken;
  }
}

async function linkUnlessTaken(files: Names, path: string, target: string): Promise<TargetExistsError | null> {
  try {
    await files.link(path, target);
    return null;
  } catch (error) {
    if (hasCode(error, "EEXIST")) return new TargetExistsError(target, { cause: error });
    throw error;
  }
}
