import type { FileFingerprint, RandomSource } from "@kiln/std";
import { randomHex } from "@kiln/std";
import type { PublishingDirectories, PublishingFiles } from "@kiln/std/node";
import { type SimDisk, SimDiskError, SimFiles, selfOf, type SimFileInfo } from "../disk.ts";
import type { Life } from "../life.ts";
import type { Troubles } from "./faults.ts";

/** A file of the simulated disk that is open for writing. */
export interface OpenFile extends AsyncDisposable {
  readonly path: string;
  readonly info: () => SimFileInfo;
}

const WRITES: ReadonlySet<string> = new Set(["create", "write", "mkdir", "link"]);
const NAME_BYTES = 6;
/** A file is written in so many pieces at most: others see it half written, and a schedule does not spend its steps on it. */
const PIECES = 3;
const LEAST_PIECE = 16;

/** The simulated disk as one daemon has it, for what Kiln publishes with its own code. */
export class HomeFiles implements PublishingFiles<OpenFile>, PublishingDirectories {
  readonly disk: SimDisk;
  readonly files: SimFiles;
  readonly #random: RandomSource;
  readonly #name: string;

  constructor(disk: SimDisk, { life, troubles, random }: { life: Life; troubles: Troubles; random: RandomSource }) {
    this.disk = disk;
    this.#random = random;
    this.#name = life.name;
    this.files = new SimFiles(disk, async (call) => {
      await troubles.step(`disk.${call}`, life);
      if (WRITES.has(call) && troubles.happens("disk")) throw new SimDiskError("ENOSPC", call, "the simulated disk");
    });
  }

  stagingPath(stagingDir: string): string {
    return `${stagingDir}/${this.#name}.${randomHex(this.#random, NAME_BYTES)}`;
  }

  discard(path: string): Promise<void> {
    return this.files.removeTree(path);
  }

  async create(path: string): Promise<OpenFile> {
    await this.files.create(path);
    return { path, info: this.disk.handle(path), [Symbol.asyncDispose]: async () => undefined };
  }

  async write(path: string, bytes: Uint8Array): Promise<void> {
    await this.files.append(path, bytes, Math.max(LEAST_PIECE, Math.ceil(bytes.length / PIECES)));
  }

  async isAt({ info }: OpenFile, path: string): Promise<boolean> {
    return (await this.files.info(path))?.ino === info().ino;
  }

  chmod({ path }: OpenFile, mode: number): Promise<void> {
    return this.files.chmod(path, mode);
  }

  sync({ path }: OpenFile): Promise<void> {
    return this.files.sync(path);
  }

  async fingerprintOf({ info }: OpenFile): Promise<FileFingerprint> {
    return fingerprint(info());
  }

  async fingerprintAt(path: string): Promise<FileFingerprint | null> {
    const info = await this.files.info(path);
    return info === null ? null : fingerprint(info);
  }

  link(path: string, target: string): Promise<void> {
    return this.files.link(path, target);
  }

  rename(path: string, target: string): Promise<void> {
    return this.disk.info(path) === null ? this.files.moveTree(path, target) : this.files.rename(path, target);
  }

  syncDirectory(path: string): Promise<void> {
    return this.files.syncDirectory(path);
  }

  makeDirectory(path: string): Promise<void> {
    return this.files.makeDirectory(path);
  }

  async isEmpty(path: string): Promise<boolean> {
    return (await this.files.list(path)).every((name) => name === selfOf(path));
  }

  syncTree(path: string): Promise<void> {
    return this.files.syncTree(path);
  }

  async kindAt(path: string): Promise<"directory" | "other" | null> {
    const list = await this.files.list(path);
    if (list.length > 0) return "directory";
    return this.disk.info(path) === null ? null : "other";
  }

  /** null where there is none. */
  readIfThere(path: string): Promise<Uint8Array | null> {
    return this.files.readIfThere(path);
  }

  /** Names of what is in a directory, sorted. */
  async entries(directory: string): Promise<string[]> {
    return entriesOf(await this.files.list(directory), directory);
  }
}

export const entriesOf = (paths: readonly string[], directory: string): string[] => {
  const names = paths.map((path) => path.slice(directory.length + 1).split("/")[0] ?? "");
  return [...new Set(names)].filter((name) => name !== "." && name !== "");
};

export const fingerprint = ({ size, ino, changes, changedMs }: SimFileInfo): FileFingerprint => ({
  ...{ size, ino: String(ino), mtimeNs: String(changedMs), ctimeNs: `${changedMs}.${changes}` },
});
