/** Where scenarios run: a home that isolated ones share, and copies of what it was made of for those that want one of their own. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DaemonStatus } from "@kiln/protocol";
import { runTool } from "@kiln/std/node";
import { TestHome } from "../e2e/home.ts";
import { Cli, Transcript } from "./cli.ts";
import { IMAGE, MEMORY } from "./guests.ts";
import { checkHome, removeHome } from "./leftovers.ts";
import { Room } from "./room.ts";
import type { Host, Opened } from "./runner.ts";
import type { HomeOptions, Scenario } from "./scenario.ts";

export interface StageOptions {
  readonly signal: AbortSignal;
}

export class Stage implements Host {
  readonly #root: string;
  readonly #prepared: string;
  readonly #shared: TestHome;
  #driver = "";
  #homes = 0;

  private constructor(root: string) {
    this.#root = root;
    this.#prepared = join(root, "prepared");
    this.#shared = TestHome.at(join(root, "shared"));
  }

  /** Fetches and builds what the scenarios' VMs start from, as a user would. */
  static async create({ signal }: StageOptions): Promise<Stage> {
    const root = await mkdtemp(join(tmpdir(), "kiln-smoke-"));
    const stage = new Stage(root);
    try {
      const cli = new Cli(TestHome.at(stage.#prepared), { transcript: new Transcript(), signal });
      await cli.ok("pull", IMAGE);
      await cli.ok("kernel", "warm", "-m", MEMORY);
      stage.#driver = (await cli.json<DaemonStatus>("daemon", "status")).drivers
        .map(({ name, version, accel }) => [name, version, accel].filter((word) => word !== null).join(" "))
        .join(", ");
      await cli.ok("daemon", "stop");
      await stage.#copy(stage.#shared.path);
      await new Cli(stage.#shared, { transcript: new Transcript(), signal }).ok("daemon", "start");
      return stage;
    } catch (error) {
      for (const path of [stage.#prepared, stage.#shared.path]) await removeHome(TestHome.at(path));
      await rm(root, { recursive: true, force: true });
      throw error;
    }
  }

  /** What its VMs run on. */
  get driver(): string {
    return this.#driver;
  }

  async open(scenario: Scenario, signal: AbortSignal): Promise<Opened> {
    return Room.open(scenario, { signal, root: this.#root, shared: this.#shared, makeHome: (options) => this.#home(options) });
  }

  /** CPU time of this program, its commands, the shared home's daemon and the VMMs that it has reaped. */
  async cpuMs(): Promise<number> {
    const daemon = await ticksOf(String(await this.#shared.daemonPid()));
    return ((await ticksOf("self")) + daemon) * MS_PER_TICK;
  }

  /** What is left in the shared home when nothing runs in it any more. */
  async leftovers(): Promise<readonly string[]> {
    return checkHome(this.#shared);
  }

  /** Ends all that it has started; what is left of it after that. */
  async close(): Promise<readonly string[]> {
    const left = await removeHome(this.#shared);
    await rm(this.#root, { recursive: true, force: true });
    return left;
  }

  async #home({ from, env = {}, at }: HomeOptions): Promise<TestHome> {
    this.#homes += 1;
    const path = at ?? join(this.#root, `home-${this.#homes}`);
    if (from === "prepared") await this.#copy(path);
    return TestHome.at(path, env);
  }

  async #copy(to: string): Promise<void> {
    await runTool("cp", ["-a", this.#prepared, to], { signal: AbortSignal.timeout(COPY_MS) });
  }
}

/** 200 MB of blocks, from memory mostly. */
const COPY_MS = 60_000;

/** What /proc counts in: USER_HZ, which is 100 wherever Linux speaks to programs. */
const MS_PER_TICK = 10;

/** Its own time and that of children that it has waited for. */
const ticksOf = async (pid: string): Promise<number> => {
  const text = await readFile(`/proc/${pid}/stat`, "latin1");
  // the second field is a name in brackets, with anything in it
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
};
