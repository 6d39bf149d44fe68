/** Where chaos happens: a small disk of its own with a home, a daemon that is started again wherever it is gone, and a registry. */
import { execFile, spawnSync } from "node:child_process";
import { appendFile, copyFile, mkdir, mkdtemp, readFile, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { KilnError } from "@kiln/protocol";
import type { Kiln } from "@kiln/sdk";
import { connect } from "@kiln/sdk/node";
import { identifyProcess, processState, type ProcessIdentity, signalProcess } from "@kiln/std/node";
import { ensureDaemon } from "../../packages/cli/src/daemon/ensure.ts";
import { endProcessesOf } from "../crash/world.ts";
import { ifThere } from "../crash/if-there.ts";
import { addKernel } from "../crash/stage.ts";
import { TestHome, waitUntil } from "../e2e/home.ts";
import type { ChaosDriver } from "./plan.ts";
import { MoodyRegistry } from "./registry.ts";

const run = promisify(execFile);
const MIB = 2 ** 20;

/** What a driver's VMs need: a disk that one can fill in a moment, and memory for fewer VMs than there are names. */
const SIZES: Readonly<Record<ChaosDriver, { readonly diskBytes: number; readonly vms: number }>> = {
  fake: { diskBytes: 192 * MIB, vms: 9 },
  qemu: { diskBytes: 1024 * MIB, vms: 3 },
};
export const VM_MEMORY_BYTES = 128 * MIB;
export const VM_DISK_BYTES = 16 * MIB;
const BALLAST = "ballast";

export class Ground implements AsyncDisposable {
  readonly driver: ChaosDriver;
  readonly home: TestHome;
  readonly kiln: Kiln;
  readonly registry: MoodyRegistry;
  /** A file on the host for each seed, in which fake guests write their nonces down. */
  readonly notes: string;
  /** The last event that a seed has read. */
  cursor = 0;
  readonly #root: string;
  readonly #env: Readonly<Record<string, string>>;
  #isMounted = false;

  private constructor(driver: ChaosDriver, root: string, registry: MoodyRegistry) {
    const path = join(root, "disk", "home");
    this.driver = driver;
    this.registry = registry;
    this.notes = join(root, "notes");
    this.#root = root;
    this.#env = { KILN_DRIVER: driver, KILN_MEMORY_BYTES: String(SIZES[driver].vms * VM_MEMORY_BYTES), KILN_SCRUB: "off" };
    this.home = TestHome.at(path, this.#env);
    this.kiln = connect({ home: path });
  }

  static async create(driver: ChaosDriver): Promise<Ground> {
    await using undo = new AsyncDisposableStack();
    const root = await mkdtemp(join(tmpdir(), "kiln-chaos-"));
    undo.defer(() => rm(root, { recursive: true, force: true }));
    const registry = undo.use(await MoodyRegistry.start(driver));
    const ground = undo.use(new Ground(driver, root, registry));
    await ground.#mount();
    await mkdir(ground.home.path, { mode: 0o700 });
    await ground.#prepare();
    undo.move();
    return ground;
  }

  /** Whether the home has a disk of its own, which can be filled. */
  get canFill(): boolean {
    return this.#isMounted;
  }

  /** A disk of its own takes root. */
  async #mount(): Promise<void> {
    const disk = join(this.#root, "disk");
    await mkdir(disk, { mode: 0o700 });
    if (process.getuid?.() !== 0) return;
    await run("mount", ["-t", "tmpfs", "-o", `size=${SIZES[this.driver].diskBytes},mode=0700`, "kiln-chaos", disk]);
    this.#isMounted = true;
  }

  /** A daemon, and a kernel, which is not what chaos is about. */
  async #prepare(): Promise<void> {
    await this.ensureDaemon();
    if (this.driver === "fake") {
      await this.endDaemon("SIGTERM");
      await addKernel(this.home);
      await this.ensureDaemon();
    } else await this.kiln.operations.result(await this.kiln.kernels.warm({ memoryBytes: VM_MEMORY_BYTES }));
  }

  /** Takes all but `leftBytes` of the disk. */
  async fill(leftBytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(join(this.#root, "disk"));
    const bytes = bavail * bsize - leftBytes;
    // a neighbour may have taken some of it meanwhile: what there was then is what is taken
    if (bytes > 0) spawnSync("fallocate", ["-l", String(bytes), this.#ballast]);
  }

  async makeRoom(): Promise<void> {
    await rm(this.#ballast, { force: true });
  }

  /** Starts a daemon if none answers. One that finds no room, or that is killed as it starts, is started again with room. */
  async ensureDaemon(): Promise<void> {
    const env = { ...process.env, ...this.#env };
    for (let attempt = 0; ; attempt += 1) {
      try {
        await ensureDaemon({ home: this.home.path, env, signal: AbortSignal.timeout(30_000) });
        return;
      } catch (error) {
        if (attempt === 3 || !(error instanceof KilnError)) throw error;
        await this.makeRoom();
      }
    }
  }

  /** The process that holds the home; null where none does. */
  async daemon(): Promise<ProcessIdentity | null> {
    const text = await ifThere(readFile(join(this.home.path, "daemon.json"), "utf8"), "");
    const { pid } = (text === "" ? {} : JSON.parse(text)) as { readonly pid?: number };
    if (pid === undefined) return null;
    const command = await ifThere(readFile(`/proc/${pid}/cmdline`, "utf8"), "");
    return command.includes(this.home.path) ? identifyProcess(pid) : null;
  }

  /** Returns when it is gone. */
  async endDaemon(signalName: "SIGKILL" | "SIGTERM"): Promise<void> {
    const daemon = await this.daemon();
    if (daemon === null) return;
    await signalProcess(daemon, signalName);
    await waitUntil(async () => (await processState(daemon)) === "dead", "the daemon's end");
  }

  /** Copies a file of the home to a directory, where it is there. */
  async keep(name: string, directory: string): Promise<void> {
    await ifThere(copyFile(join(this.home.path, name), join(directory, name)), undefined);
  }

  /** Into the daemon's log, so that it can be read beside what was done. */
  async note(text: string): Promise<void> {
    await appendFile(join(this.#root, "log"), `${new Date().toISOString()} ${text}\n`);
  }

  get log(): string {
    return join(this.#root, "log");
  }

  get #ballast(): string {
    return join(this.#root, "disk", BALLAST);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kiln[Symbol.dispose]();
    await this.registry[Symbol.asyncDispose]();
    await endProcessesOf(this.home.path);
    if (this.#isMounted) {
      const disk = join(this.#root, "disk");
      // whoever looks through all processes may hold one of its files for a moment
      for (let turn = 0; ; turn += 1) {
        try {
          await run("umount", [disk]);
          break;
        } catch (error) {
          if (turn === 100) throw error;
          await sleep(50);
        }
      }
      this.#isMounted = false;
    }
    await rm(this.#root, { recursive: true, force: true });
  }
}
