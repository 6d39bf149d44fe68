import { chmod, lstat, mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, KilnError } from "@kiln/protocol";
import { type FileLock, identifyProcess, makeDirectories, processState, publishBytes, tryLockFile } from "@kiln/std/node";
import { z } from "zod";

/** The directories of a home, all 0700. */
const DIRECTORIES = ["content", "rootfs", "kernels", "preboots", "pool", "vms", "staging", "cache"] as const;

export interface HomePaths {
  readonly home: string;
  readonly database: string;
  readonly lock: string;
  /** Says who holds the lock; believed only while the lock is held. */
  readonly holder: string;
  readonly socket: string;
  readonly content: string;
  readonly rootfs: string;
  readonly kernels: string;
  readonly preboots: string;
  readonly pool: string;
  readonly vms: string;
  readonly staging: string;
  readonly cache: string;
  /** Of the VMs' network; there while VMs have one. */
  readonly network: string;
  /** A person's settings for registries; may be missing. */
  readonly registries: string;
}

export const homePaths = (home: string): HomePaths => ({
  home,
  database: join(home, "kiln.db"),
  lock: join(home, "lock.db"),
  holder: join(home, "daemon.json"),
  socket: join(home, "kiln.sock"),
  content: join(home, "content"),
  rootfs: join(home, "rootfs"),
  kernels: join(home, "kernels"),
  preboots: join(home, "preboots"),
  pool: join(home, "pool"),
  vms: join(home, "vms"),
  staging: join(home, "staging"),
  cache: join(home, "cache"),
  network: join(home, "network"),
  registries: join(home, "registries.toml"),
});

/** Makes the home where it is missing. Throws HOME_INVALID for one of another user or of another kind (I38), PERMISSION_DENIED. */
export const prepareHome = async (home: string): Promise<HomePaths> => {
  const paths = homePaths(home);
  try {
    await makeDirectories(home, 0o700);
    await requireOwn(home);
    for (const name of DIRECTORIES) await mkdir(join(home, name), { recursive: true, mode: 0o700 });
  } catch (error) {
    if (error instanceof KilnError) throw error;
    const code = errnoOf(error);
    if (code === "EACCES" || code === "EPERM" || code === "EROFS") {
      throw new KilnError("PERMISSION_DENIED", `no permission to make the home ${home}`, { cause: error, object: home });
    }
    if (code === "EEXIST" || code === "ENOTDIR")
      throw new KilnError("HOME_INVALID", `the home ${home} is not a directory`, { cause: error, object: home });
    throw error;
  }
  return paths;
};

/** What the command line or a person may have put there before the first daemon. */
const WRITTEN_BEFORE: ReadonlySet<string> = new Set(["daemon.log", "registries.toml"]);

const requireOwn = async (home: string): Promise<void> => {
  const stat = await lstat(home);
  if (!stat.isDirectory()) throw new KilnError("HOME_INVALID", `the home ${home} is not a directory`, { object: home });
  if (stat.uid !== process.getuid?.()) {
    throw new KilnError("HOME_INVALID", `the home ${home} belongs to the user ${stat.uid}, not to ${process.getuid?.()}`, { object: home });
  }
  if ((stat.mode & 0o077) === 0) return;
  const foreign = (await readdir(home)).filter((name) => !WRITTEN_BEFORE.has(name));
  if (foreign.length > 0 && !foreign.includes("kiln.db")) {
    throw new KilnError("HOME_INVALID", `the directory ${home} holds other things than a home of Kiln`, { object: home });
  }
  await chmod(home, 0o700);
};

const holderFile = z.object({
  pid: z.int().positive(),
  startedAt: z.string(),
  identity: z.object({ bootId: z.string(), pidNamespace: z.string(), pid: z.int().positive(), startTime: z.string() }),
});
type Holder = z.output<typeof holderFile>;

/** Takes the home for this process (I39). Throws HOME_IN_USE with who holds it. */
export const lockHome = async (paths: HomePaths, self: { pid: number; startedAt: string; version: string }): Promise<FileLock> => {
  const lock = tryLockFile(paths.lock);
  if (lock === null)
    throw new KilnError("HOME_IN_USE", `the home ${paths.home} is held by ${await describeHolder(paths)}`, { object: paths.home });
  const bytes = JSON.stringify({ ...self, identity: await identifyProcess(self.pid) });
  await publishBytes({ target: paths.holder, stagingDir: paths.staging, bytes, ifExists: "replace" });
  return lock;
};

/** The lock alone says that it is held; whoever holds it has not written its name yet where the name is of a dead one. */
const describeHolder = async (paths: HomePaths): Promise<string> => {
  const holder = await readHolder(paths);
  const state = holder === null ? "dead" : await processState(holder.identity);
  if (holder === null || state === "dead") return "another daemon that is just starting";
  if (state === "alive") return `the daemon with pid ${holder.pid}, since ${holder.startedAt}`;
  const { pidNamespace } = holder.identity;
  return `a daemon that cannot be seen from here, with pid ${holder.pid} in the pid namespace ${pidNamespace}, since ${holder.startedAt}`;
};

const readHolder = async (paths: HomePaths): Promise<Holder | null> => {
  try {
    return holderFile.safeParse(JSON.parse(await readFile(paths.holder, "utf8"))).data ?? null;
  } catch (error) {
    if (errnoOf(error) !== "ENOENT" && !(error instanceof SyntaxError)) throw error;
    return null;
  }
};

/** Whatever is being staged while the lock is taken belongs to a daemon that is dead (I15). */
export const sweepStaging = async (paths: HomePaths): Promise<number> => {
  const left = (await readdir(paths.staging)).map((name) => join(paths.staging, name));
  for (const path of left) await rm(path, { recursive: true, force: true });
  return left.length;
};
