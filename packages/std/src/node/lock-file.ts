import { closeSync, constants, openSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { hasCode } from "./errno.ts";

export interface FileLock {
  /** Gives the lock up; a second call does nothing. Forgetting the lock does not give it up. */
  release(): void;
}

/** SQLITE_BUSY, the low byte of the extended result code: https://sqlite.org/rescode.html */
const SQLITE_BUSY = 5;

/** Locks that are held: a connection that only its lock's holder remembers could be collected, and its lock with it. */
const held = new Set<DatabaseSync>();

/**
 * Takes the exclusive lock on the file at `path`, creating it (mode 0600) if needed; null if another process, or
 * this one, holds it. The kernel releases it when the process ends, however it ends. The file stays and is
 * never removed: two holders could lock two files of one name.
 *
 * The lock is a POSIX record lock, taken by SQLite. A process loses it when it closes any other descriptor of the
 * same file, so the holder must not open the file by itself, not even to read it.
 * Throws if the file cannot be created or is not a lock file.
 */
export function tryLockFile(path: string): FileLock | null {
  create(path);
  const database = new DatabaseSync(path, { timeout: 0 });
  try {
    database.exec("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE");
  } catch (error) {
    database.close();
    if (isBusy(error)) return null;
    throw error;
  }
  held.add(database);
  return {
    release() {
      if (held.delete(database)) database.close();
    },
  };
}

/** Never opens a file that exists: closing it would drop this process's lock on it. */
function create(path: string): void {
  try {
    closeSync(openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600));
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && "errcode" in error && typeof error.errcode === "number" && (error.errcode & 0xff) === SQLITE_BUSY;
}
