import { WORLD, type Life } from "./life.ts";
import type { Scheduler } from "./scheduler.ts";

/** What the machine keeps when its power fails, and what it may lose: the bytes and the names of before the last sync. */
interface Inode {
  readonly ino: number;
  bytes: Uint8Array;
  /** What fsync(2) has made safe; null: not even that there is a file. */
  safe: Uint8Array | null;
  mode: number;
  changes: number;
  /** When it changed last, in virtual milliseconds. */
  changedMs: number;
}

/** A directory has got another name, and no fsync has made that safe. */
interface Move {
  readonly from: string;
  readonly to: string;
  readonly names: readonly string[];
}

type Names = Map<string, Inode>;

export interface SimFileInfo {
  readonly size: number;
  readonly ino: number;
  /** Grows with each change of the file. */
  readonly changes: number;
  readonly changedMs: number;
}

/** A system call of the simulated disk has failed. `code` as Node says it: ENOENT, EEXIST, ENOSPC, EIO. */
export class SimDiskError extends Error {
  readonly code: string;

  constructor(code: string, call: string, path: string) {
    super(`${code}: ${call} '${path}'`);
    this.code = code;
  }
}

/** A write(2) takes at most so many bytes here, so that others see files half written. */
const PIECE_BYTES = 16;
/** Of what was not synced, each name and each file's bytes survive a power failure with this probability. */
const SURVIVES = 0.5;

/**
 * Files in memory, by absolute path: each call is a step of the scheduler. A killed process loses nothing that it has
 * written; a power failure may lose all that was not synced, of each file and of each directory on its own.
 */
export class SimDisk {
  readonly #scheduler: Scheduler;
  /** As processes see them. */
  #names: Names = new Map();
  /** As they are after a power failure: names that their directory's fsync has made safe. */
  #safeNames: Names = new Map();
  #moves: Move[] = [];
  #inodes = 0;
  /** Bytes that may still be written; then ENOSPC. */
  room = Infinity;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** The disk as one process uses it. */
  filesOf(life: Life = WORLD): SimFiles {
    return new SimFiles(this, (label) => this.#scheduler.step(`disk.${label}`, life));
  }

  /** The power fails, and comes back: what was synced is there, the rest as the dice fall. */
  losePower(): void {
    const { dice } = this.#scheduler;
    for (const move of this.#moves) {
      if (dice.chance(SURVIVES)) this.#keepMove(move);
      else this.#takeBack(move);
    }
    this.#moves = [];
    const changed = new Set([...this.#names.keys(), ...this.#safeNames.keys()]);
    const after: Names = new Map();
    for (const path of changed) {
      const [now, safe] = [this.#names.get(path), this.#safeNames.get(path)];
      const left = now === safe || dice.chance(SURVIVES) ? now : safe;
      if (left !== undefined) after.set(path, left);
    }
    for (const inode of new Set(after.values())) {
      if (inode.safe !== inode.bytes && !dice.chance(SURVIVES)) inode.bytes = inode.safe ?? new Uint8Array(0);
      inode.safe = inode.bytes;
    }
    this.#names = after;
    this.#safeNames = new Map(after);
  }

  /** For those who look from outside: no step. */
  peek(path: string): Uint8Array | null {
    return this.#names.get(path)?.bytes ?? null;
  }

  /** All paths below a directory, sorted. */
  list(directory: string): string[] {
    return [...this.#names.keys()].filter((path) => path.startsWith(`${directory}/`)).sort();
  }

  info(path: string): SimFileInfo | null {
    const inode = this.#names.get(path);
    return inode === undefined ? null : describe(inode);
  }

  /** The file that has the name now, however it is called later: fstat(2). */
  handle(path: string): () => SimFileInfo {
    const inode = this.require(path, "open");
    return () => describe(inode);
  }

  /** A byte that was never written so: what a failing disk does. */
  damage(path: string): void {
    const inode = this.require(path, "damage");
    inode.bytes = inode.bytes.map((byte, at) => (at === 0 ? byte ^ 1 : byte));
    inode.safe = inode.bytes;
    this.#touch(inode);
  }

  #touch(inode: Inode): void {
    inode.changes += 1;
    inode.changedMs = this.#scheduler.clockOf().now();
  }

  require(path: string, call: string): Inode {
    const inode = this.#names.get(path);
    if (inode === undefined) throw new SimDiskError("ENOENT", call, path);
    return inode;
  }

  create(path: string): void {
    if (this.#names.has(path)) throw new SimDiskError("EEXIST", "open", path);
    this.#inodes += 1;
    this.#names.set(path, { ino: this.#inodes, bytes: new Uint8Array(0), safe: null, mode: 0o600, changes: 0, changedMs: 0 });
    this.#touch(this.require(path, "open"));
  }

  chmod(path: string, mode: number): void {
    const inode = this.require(path, "chmod");
    inode.mode = mode;
    this.#touch(inode);
  }

  append(path: string, bytes: Uint8Array): void {
    const inode = this.require(path, "write");
    if (bytes.length > this.room) throw new SimDiskError("ENOSPC", "write", path);
    this.room -= bytes.length;
    const grown = new Uint8Array(inode.bytes.length + bytes.length);
    grown.set(inode.bytes);
    grown.set(bytes, inode.bytes.length);
    inode.bytes = grown;
    this.#touch(inode);
  }

  truncate(path: string, bytes = 0): void {
    const inode = this.require(path, "ftruncate");
    inode.bytes = inode.bytes.slice(0, bytes);
    this.#touch(inode);
  }

  sync(path: string): void {
    const inode = this.require(path, "fsync");
    inode.safe = inode.bytes;
  }

  name(path: string, target: string, { replace, keep }: { replace: boolean; keep: boolean }): void {
    const inode = this.require(path, replace ? "rename" : "link");
    if (!replace && this.#names.has(target)) throw new SimDiskError("EEXIST", "link", target);
    this.#names.set(target, inode);
    this.#touch(inode);
    if (!keep) this.#names.delete(path);
  }

  remove(path: string): void {
    this.require(path, "unlink");
    this.#names.delete(path);
  }

  /** rename(2) of a directory: all that is below it goes along, also when the power fails. A directory with entries is not replaced. */
  moveTree(from: string, to: string): void {
    const names = this.list(from).map((path) => path.slice(from.length));
    if (names.length === 0) throw new SimDiskError("ENOENT", "rename", from);
    if (this.#names.has(to)) throw new SimDiskError("ENOTDIR", "rename", to);
    if (this.list(to).some((path) => path !== selfOf(to))) throw new SimDiskError("ENOTEMPTY", "rename", to);
    for (const name of names) {
      this.#names.set(`${to}${name}`, this.require(`${from}${name}`, "rename"));
      this.#names.delete(`${from}${name}`);
    }
    this.#moves.push({ from, to, names });
  }

  #keepMove({ from, to, names }: Move): void {
    for (const name of names) {
      const inode = this.#names.get(`${to}${name}`);
      if (inode !== undefined) this.#safeNames.set(`${to}${name}`, inode);
      this.#safeNames.delete(`${from}${name}`);
    }
  }

  #takeBack({ from, to, names }: Move): void {
    for (const name of names) {
      const inode = this.#names.get(`${to}${name}`);
      if (inode !== undefined) this.#names.set(`${from}${name}`, inode);
      this.#names.delete(`${to}${name}`);
    }
  }

  /** rm -r: a file, or a directory with all that is below it. Nothing there is fine. */
  removeTree(path: string): void {
    this.#names.delete(path);
    for (const name of this.list(path)) this.#names.delete(name);
  }

  syncNames(directory: string): void {
    for (const move of this.#moves.filter(({ to }) => parentOf(to) === directory)) this.#keepMove(move);
    this.#moves = this.#moves.filter(({ to }) => parentOf(to) !== directory);
    const isIn = (path: string): boolean => path.startsWith(`${directory}/`) && !path.slice(directory.length + 1).includes("/");
    for (const path of this.#safeNames.keys()) if (isIn(path) && !this.#names.has(path)) this.#safeNames.delete(path);
    for (const [path, inode] of this.#names) if (isIn(path)) this.#safeNames.set(path, inode);
  }
}

const describe = ({ bytes, ino, changes, changedMs }: Inode): SimFileInfo => ({ size: bytes.length, ino, changes, changedMs });

/** The name of a directory in itself, for directories that are made and may be empty. */
export const selfOf = (directory: string): string => `${directory}/.`;

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf("/"));

/** System calls of one process. Directories are there without being made. */
export class SimFiles {
  readonly #disk: SimDisk;
  readonly #step: (label: string) => Promise<void>;

  constructor(disk: SimDisk, step: (label: string) => Promise<void>) {
    this.#disk = disk;
    this.#step = step;
  }

  /** open(2) with O_CREAT | O_EXCL. */
  async create(path: string): Promise<void> {
    await this.#step("create");
    this.#disk.create(path);
  }

  async exists(path: string): Promise<boolean> {
    await this.#step("lstat");
    return this.#disk.peek(path) !== null;
  }

  async info(path: string): Promise<SimFileInfo | null> {
    await this.#step("lstat");
    return this.#disk.info(path);
  }

  async read(path: string): Promise<Uint8Array> {
    await this.#step("read");
    return this.#disk.require(path, "open").bytes;
  }

  /** null where there is none. */
  async readIfThere(path: string): Promise<Uint8Array | null> {
    await this.#step("read");
    return this.#disk.peek(path);
  }

  async truncate(path: string, bytes = 0): Promise<void> {
    await this.#step("truncate");
    this.#disk.truncate(path, bytes);
  }

  /** Behind what is there, piece by piece. */
  async append(path: string, bytes: Uint8Array, pieceBytes: number = PIECE_BYTES): Promise<void> {
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      await this.#step("write");
      this.#disk.append(path, bytes.subarray(at, at + pieceBytes));
    }
  }

  async chmod(path: string, mode: number): Promise<void> {
    await this.#step("chmod");
    this.#disk.chmod(path, mode);
  }

  /** mkdir(2). */
  async makeDirectory(path: string): Promise<void> {
    await this.#step("mkdir");
    if (this.#disk.list(path).length > 0) throw new SimDiskError("EEXIST", "mkdir", path);
    this.#disk.create(selfOf(path));
  }

  async moveTree(path: string, target: string): Promise<void> {
    await this.#step("rename");
    this.#disk.moveTree(path, target);
  }

  async removeTree(path: string): Promise<void> {
    await this.#step("rm");
    this.#disk.removeTree(path);
  }

  /** Every file below a directory, and the names of all. */
  async syncTree(directory: string): Promise<void> {
    await this.#step("fsync.tree");
    for (const path of this.#disk.list(directory)) {
      this.#disk.sync(path);
      this.#disk.syncNames(parentOf(path));
    }
  }

  async sync(path: string): Promise<void> {
    await this.#step("fsync");
    this.#disk.sync(path);
  }

  async link(path: string, target: string): Promise<void> {
    await this.#step("link");
    this.#disk.name(path, target, { replace: false, keep: true });
  }

  async rename(path: string, target: string): Promise<void> {
    await this.#step("rename");
    this.#disk.name(path, target, { replace: true, keep: false });
  }

  async remove(path: string): Promise<void> {
    await this.#step("unlink");
    this.#disk.remove(path);
  }

  async syncDirectory(directory: string): Promise<void> {
    await this.#step("fsync.directory");
    this.#disk.syncNames(directory);
  }

  async list(directory: string): Promise<string[]> {
    await this.#step("readdir");
    return this.#disk.list(directory);
  }
}
