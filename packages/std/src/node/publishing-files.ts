import { constants } from "node:fs";
import { type FileHandle, link, lstat, mkdir, open, readdir, rename } from "node:fs/promises";
import type { FileFingerprint } from "../file-fingerprint.ts";
import { hasCode } from "./errno.ts";
import { fileFingerprint, fingerprintOf } from "./fingerprint.ts";
import { fsyncDirectory, fsyncTree } from "./fsync.ts";
import { discardStaged, stagingPath } from "./staging.ts";

/** What publishing needs of a file system, whose errors have the codes of system calls. A simulation has one of its own. */
export interface PublishingFiles<Handle extends AsyncDisposable = FileHandle> {
  /** A name in `stagingDir` that nobody has had or will have. */
  stagingPath(stagingDir: string): string;
  /** Removes what is staged at `path`, whatever it is; nothing there is fine. */
  discard(path: string): Promise<void>;
  /** open(2) with O_CREAT | O_EXCL, mode 0600. */
  create(path: string): Promise<Handle>;
  /** Whether the open file still has this name. */
  isAt(file: Handle, path: string): Promise<boolean>;
  chmod(file: Handle, mode: number): Promise<void>;
  sync(file: Handle): Promise<void>;
  fingerprintOf(file: Handle): Promise<FileFingerprint>;
  /** null where no regular file has the name. */
  fingerprintAt(path: string): Promise<FileFingerprint | null>;
  link(path: string, target: string): Promise<void>;
  rename(path: string, target: string): Promise<void>;
  syncDirectory(path: string): Promise<void>;
}

/** The same for directories. */
export interface PublishingDirectories {
  stagingPath(stagingDir: string): string;
  discard(path: string): Promise<void>;
  /** mkdir(2), mode 0700. */
  makeDirectory(path: string): Promise<void>;
  isEmpty(path: string): Promise<boolean>;
  /** Every file and directory below `path`, itself last. */
  syncTree(path: string): Promise<void>;
  /** What has the name, a link for itself; null where nothing has. */
  kindAt(path: string): Promise<"directory" | "other" | null>;
  rename(path: string, target: string): Promise<void>;
  syncDirectory(path: string): Promise<void>;
}

/** The file system of this process. */
export const nodeFiles: PublishingFiles & PublishingDirectories = {
  stagingPath,
  discard: discardStaged,
  create: (path) => open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600),
  isAt: async (file, path) => {
    const [opened, named] = await Promise.all([file.stat({ bigint: true }), lstat(path, { bigint: true })]);
    return opened.ino === named.ino && opened.dev === named.dev;
  },
  chmod: (file, mode) => file.chmod(mode),
  sync: (file) => file.sync(),
  fingerprintOf: async (file) => fingerprintOf(await file.stat({ bigint: true })),
  fingerprintAt: fileFingerprint,
  link,
  rename,
  syncDirectory: fsyncDirectory,
  makeDirectory: (path) => mkdir(path, { mode: 0o700 }),
  isEmpty: async (path) => (await readdir(path)).length === 0,
  syncTree: fsyncTree,
  kindAt: async (path) => {
    try {
      return (await lstat(path)).isDirectory() ? "directory" : "other";
    } catch (error) {
      if (hasCode(error, "ENOENT")) return null;
      throw error;
    }
  },
};
