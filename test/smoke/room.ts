/** One scenario's place, what it has made there, and what can be said of it where it fails. */
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { randomBytes } from "node:crypto";
import type { TestHome } from "../e2e/home.ts";
import { Cli, Transcript } from "./cli.ts";
import { explainHome } from "./failure.ts";
import { removeHome } from "./leftovers.ts";
import { CLEANUP_MS } from "./limits.ts";
import { describeError, type Opened } from "./runner.ts";
import type { HomeOptions, Place, Scenario, SharedPlace, WholePlace } from "./scenario.ts";

export interface RoomOptions {
  readonly signal: AbortSignal;
  readonly root: string;
  readonly shared: TestHome;
  readonly makeHome: (options: HomeOptions) => Promise<TestHome>;
}

export class Room implements Opened {
  readonly #scenario: Scenario;
  readonly #options: RoomOptions;
  readonly #transcript = new Transcript();
  readonly #scratch: string;
  readonly #nonce = randomBytes(6).toString("hex");
  readonly #vms = new Set<string>();
  readonly #images = new Set<string>();
  readonly #resources = new AsyncDisposableStack();
  readonly #homes: TestHome[] = [];

  private constructor(scenario: Scenario, options: RoomOptions, scratch: string) {
    this.#scenario = scenario;
    this.#options = options;
    this.#scratch = scratch;
  }

  static async open(scenario: Scenario, options: RoomOptions): Promise<Room> {
    return new Room(scenario, options, await mkdtemp(join(options.root, `${scenario.name}-`)));
  }

  async run(): Promise<void> {
    const scenario = this.#scenario;
    await (scenario.kind === "isolated" ? scenario.run(this.#sharedPlace()) : scenario.run(this.#wholePlace()));
  }

  transcript(): string {
    return this.#transcript.toString();
  }

  async explain(error: unknown): Promise<string> {
    const isOwn = this.#scenario.kind === "global";
    const homes = isOwn ? this.#homes : [this.#options.shared];
    const names = isOwn ? null : { vms: [...this.#vms], images: [...this.#images] };
    const parts = [describeError(error), "what it did:", this.transcript()];
    for (const home of homes) {
      const about = new Cli(home, { transcript: new Transcript(), signal: AbortSignal.timeout(CLEANUP_MS) });
      parts.push(await explainHome(about, names));
    }
    return parts.join("\n");
  }

  async close(): Promise<void> {
    const left: string[] = [];
    const attempt = async (what: () => Promise<readonly string[]>): Promise<void> => {
      try {
        left.push(...(await what()));
      } catch (error) {
        left.push(describeError(error));
      }
    };
    await attempt(() => this.#removeOwn());
    for (const home of this.#homes) await attempt(() => removeHome(home));
    await attempt(async () => {
      await this.#resources.disposeAsync();
      await rm(this.#scratch, { recursive: true, force: true });
      return [];
    });
    if (left.length > 0) throw new Error(left.join("\n"));
  }

  /** What it has in the shared home. */
  async #removeOwn(): Promise<readonly string[]> {
    if (this.#scenario.kind === "global") return [];
    const cli = new Cli(this.#options.shared, { transcript: new Transcript(), signal: AbortSignal.timeout(CLEANUP_MS) });
    if (this.#vms.size > 0) await cli.ok("rm", "-f", ...this.#vms);
    if (this.#images.size > 0) await cli.ok("rmi", "-f", ...this.#images);
    return [];
  }

  #cli(home: TestHome): Cli {
    return new Cli(home, { transcript: this.#transcript, signal: this.#options.signal });
  }

  #place(): Place {
    const { signal } = this.#options;
    const named = (names: Set<string>, name: string): string => {
      names.add(name);
      return name;
    };
    return {
      ...{ signal, scratch: this.#scratch, nonce: this.#nonce },
      vm: (word) => named(this.#vms, `${this.#scenario.name}-${word}`),
      image: (word) => named(this.#images, `smoke/${this.#scenario.name}:${word}`),
      use: (resource) => this.#resources.use(resource),
    };
  }

  #sharedPlace(): SharedPlace {
    return { ...this.#place(), kiln: this.#cli(this.#options.shared) };
  }

  #wholePlace(): WholePlace {
    const home = async (options: HomeOptions): Promise<Cli> => {
      const made = await this.#options.makeHome(options);
      this.#homes.push(made);
      return this.#cli(made);
    };
    return { ...this.#place(), home };
  }
}
