import { rmSync } from "node:fs";
import { chmod, chown, lstat, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { KilnError } from "@kiln/protocol";
import { SingleFlight } from "@kiln/std";
import { publishDirectory } from "@kiln/std/node";
import type { OpenPreboot, PrebootFiles, PrebootRecord } from "../snapshots/preboot.ts";
import { CONTENT_LIMITS } from "./limits.ts";
import { hashFile, KnownFiles } from "./known-files.ts";
import { requireRoom } from "./room.ts";
import { loadSealedMemory, mapMemory, type SealedMemory } from "./sealed-memory.ts";

/** The files of a snapshot. */
export const [MEMORY_FILE, STATE_FILE] = ["memory", "state"] as const;
const BLOCK_BYTES = 512;

interface Loaded {
  readonly key: string;
  readonly memory: SealedMemory;
  users: number;
  usedAt: number;
}

type BuildSteps = Parameters<PrebootFiles["build"]>[1];

/**
 * `<home>/preboots/<key>/`: memory and state, mode 0400: what a guest had in its memory is nobody else's. Memory is read
 * once, checked, and kept sealed for the VMs to come: the newest few.
 */
export class PrebootDirectory implements PrebootFiles, AsyncDisposable {
  readonly #directory: string;
  readonly #stagingDir: string;
  readonly #program: string;
  readonly #known = new KnownFiles();
  readonly #loading = new SingleFlight<string, Loaded>();
  /** By the memory's hash: a snapshot that was built again under its key is another. */
  readonly #loaded = new Map<string, Loaded>();
  #uses = 0;

  /** `program` is the daemon's helper for descriptors. */
  constructor(parts: { readonly directory: string; readonly stagingDir: string; readonly program: string }) {
    this.#directory = parts.directory;
    this.#stagingDir = parts.stagingDir;
    this.#program = parts.program;
  }

  path(key: string): string {
    return join(this.#directory, key);
  }

  async build(
    key: string,
    steps: BuildSteps,
    { signal }: { signal: AbortSignal },
  ): Promise<Pick<PrebootRecord, "map" | "state" | "diskBytes">> {
    const built = Promise.withResolvers<Pick<PrebootRecord, "map" | "state" | "diskBytes">>();
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await requireRoom(this.#stagingDir, { bytes: CONTENT_LIMITS.prebootBytes, what: "a pre-boot snapshot" });
    this.removeNow(key);
    await publishDirectory({
      target: this.path(key),
      stagingDir: this.#stagingDir,
      ifExists: "fail",
      signal,
      write: async (directory) => built.resolve(await this.#write(directory, steps, signal)),
    });
    return built.promise;
  }

  async #write(directory: string, steps: BuildSteps, signal: AbortSignal): Promise<Pick<PrebootRecord, "map" | "state" | "diskBytes">> {
    const vmDirectory = await mkdtemp(join(this.#stagingDir, "preboot-"));
    await using undo = new AsyncDisposableStack();
    undo.defer(() => rm(vmDirectory, { recursive: true, force: true }));
    const target = { memory: join(directory, MEMORY_FILE), state: join(directory, STATE_FILE) };
    for (const path of [target.memory, target.state]) await writeFile(path, "", { mode: 0o600 });
    await steps.save(target, vmDirectory);
    for (const path of [target.memory, target.state]) {
      // a VMM of another uid has written it
      if (process.getuid?.() === 0) await chown(path, 0, 0);
      await chmod(path, 0o400);
    }
    const map = await mapMemory(target.memory, { signal });
    const { size } = await lstat(target.state);
    const state = { size, sha256: await hashFile(target.state, signal) };
    await using memory = await loadSealedMemory({ path: target.memory, map }, { program: this.#program, signal });
    await steps.verify({ memory: memory.descriptor, state: target.state }, vmDirectory);
    const { blocks } = await lstat(target.memory);
    return { map, state, diskBytes: blocks * BLOCK_BYTES + size };
  }

  async open(record: PrebootRecord, options: { signal: AbortSignal }): Promise<OpenPreboot> {
    const { key, state } = record;
    const path = join(this.path(key), STATE_FILE);
    if (!(await this.#known.isWhole({ path, ...state, fingerprint: null }, options))) {
      throw new KilnError("ARTIFACT_DAMAGED", `the pre-boot snapshot ${key} is missing or damaged`, { object: key });
    }
    const loaded = await this.#hold(record, options);
    let isHeld = true;
    return {
      ...{ record, memory: loaded.memory.descriptor, state: path },
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        loaded.users -= 1;
        if (loaded.users === 0 && this.#loaded.get(record.map.sha256) !== loaded) void loaded.memory[Symbol.asyncDispose]();
      },
    };
  }

  async #hold(record: PrebootRecord, options: { signal: AbortSignal }): Promise<Loaded> {
    const id = record.map.sha256;
    for (;;) {
      const loaded = this.#loaded.get(id) ?? (await this.#loading.run(id, ({ signal }) => this.#load(record, signal), options));
      // another may have been given its room while this waited for the turn
      if (this.#loaded.get(id) !== loaded) continue;
      loaded.users += 1;
      loaded.usedAt = this.#uses += 1;
      return loaded;
    }
  }

  async #load({ key, map }: PrebootRecord, signal: AbortSignal): Promise<Loaded> {
    const known = this.#loaded.get(map.sha256);
    if (known !== undefined) return known;
    const path = join(this.path(key), MEMORY_FILE);
    const memory = await loadSealedMemory({ path, map }, { program: this.#program, signal });
    this.#makeRoom();
    const loaded = { key, memory, users: 0, usedAt: this.#uses };
    this.#loaded.set(map.sha256, loaded);
    return loaded;
  }

  #makeRoom(): void {
    const idle = [...this.#loaded].filter(([, { users }]) => users === 0).toSorted(([, one], [, other]) => one.usedAt - other.usedAt);
    for (const [id, loaded] of idle.slice(0, Math.max(0, this.#loaded.size + 1 - CONTENT_LIMITS.loadedPreboots))) this.#letGo(id, loaded);
  }

  /** What a VMM has mapped stays with it; who is about to start from it closes it. */
  #letGo(id: string, loaded: Loaded): void {
    this.#loaded.delete(id);
    if (loaded.users === 0) void loaded.memory[Symbol.asyncDispose]();
  }

  removeNow(key: string): void {
    for (const [id, loaded] of this.#loaded) if (loaded.key === key) this.#letGo(id, loaded);
    rmSync(this.path(key), { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { memory } of this.#loaded.values()) await memory[Symbol.asyncDispose]();
    this.#loaded.clear();
  }
}
