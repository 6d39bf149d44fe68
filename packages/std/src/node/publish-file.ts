import { constants } from "node:fs";
import { link, lstat, open, rename, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import type { FileFingerprint } from "../file-fingerprint.ts";
import { hasCode } from "./errno.ts";
import { failpoint } from "./failpoints.ts";
import { fileFingerprint, fingerprintOf } from "./fingerprint.ts";
import { fsyncDirectory } from "./fsync.ts";
import { discardStaged, PUBLISH_POINTS, stagingPath, TargetExistsError } from "./staging.ts";

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

export interface PublishFileOptions extends PublishTarget {
  /** Fills the empty staged file, through the handle or by its path; it neither replaces the file nor closes the handle. */
  readonly write: (file: FileHandle, path: string) => Promise<void>;
  /** Throws if the staged file, written and synced, is not what it should be. */
  readonly verify?: (path: string, file: FileHandle) => Promise<void>;
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
export async function publishFile(options: PublishFileOptions): Promise<PublishedFile> {
  const { target, stagingDir, write, verify, signal } = options;
  signal?.throwIfAborted();
  await using cleanup = new AsyncDisposableStack();
  const path = stagingPath(stagingDir);
  cleanup.defer(() => discardStaged(path));
  const file = cleanup.use(await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600));

  await write(file, path);
  await failpoint(PUBLISH_POINTS.written);
  await requireSameFile(file, path);
  await file.chmod(options.mode ?? 0o600);
  await file.sync();
  await verify?.(path, file);
  await failpoint(PUBLISH_POINTS.staged);
  signal?.throwIfAborted();

  const kept = await nameIt(path, options);
  await discardStaged(path);
  await failpoint(PUBLISH_POINTS.named);
  await fsyncDirectory(dirname(target));
  const fingerprint = kept ?? fingerprintOf(await file.stat({ bigint: true }));
  return { path: target, published: kept === null, ...fingerprint };
}

/** publishFile for content that is in memory; text is written as UTF-8. */
export async function publishBytes(options: PublishTarget & { readonly bytes: Uint8Array | string }): Promise<PublishedFile> {
  const { bytes, ...target } = options;
  return publishFile({ ...target, write: (file) => file.writeFile(bytes) });
}

/** A writer that put another file at the staged path would see the empty one published. */
async function requireSameFile(file: FileHandle, path: string): Promise<void> {
  const [open, named] = await Promise.all([file.stat({ bigint: true }), lstat(path, { bigint: true })]);
  if (open.ino !== named.ino || open.dev !== named.dev) throw new Error(`the staged file ${path} was replaced while it was written`);
}

/** How often a name may be taken and free again between two looks before something else is wrong. */
const NAMING_ATTEMPTS = 100;

/** Gives the staged file its final name. Returns the fingerprint of the file that was kept instead, or null. */
async function nameIt(path: string, { target, ifExists }: PublishTarget): Promise<FileFingerprint | null> {
  if (ifExists === "replace") {
    await rename(path, target);
    return null;
  }
  for (let attempt = 1; ; attempt += 1) {
    const taken = await linkUnlessTaken(path, target);
    if (taken === null) return null;
    if (ifExists === "fail") throw taken;
    const kept = await fileFingerprint(target);
    if (kept !== null) return kept;
    if (attempt === NAMING_ATTEMPTS) throw taken;
  }
}

async function linkUnlessTaken(path: string, target: string): Promise<TargetExistsError | null> {
  try {
    await link(path, target);
    return null;
  } catch (error) {
    if (hasCode(error, "EEXIST")) return new TargetExistsError(target, { cause: error });
    throw error;
  }
}
