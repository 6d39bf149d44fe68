import type { Kiln } from "@kiln/sdk";
import type { Host } from "./host.ts";
import type { Interrupts } from "./interrupts.ts";
import { writeTo } from "./streams.ts";

/** What a command runs in. */
export class CommandContext {
  readonly host: Host;
  readonly json: boolean;
  readonly interrupts: Interrupts;
  readonly #askedHome: string | undefined;
  #home: Promise<string> | null = null;

  constructor(from: { readonly host: Host; readonly json: boolean; readonly home: string | undefined; readonly interrupts: Interrupts }) {
    this.host = from.host;
    this.json = from.json;
    this.interrupts = from.interrupts;
    this.#askedHome = from.home;
  }

  /** Aborts when the command is interrupted. */
  get signal(): AbortSignal {
    return this.interrupts.signal;
  }

  home(): Promise<string> {
    this.#home ??= (async () => {
      const [{ resolveHome }, { homedir }] = await Promise.all([import("@kiln/sdk/node"), import("node:os")]);
      const { env, cwd, uid } = this.host;
      return resolveHome({ home: this.#askedHome, env, cwd, uid, userHome: env["HOME"] ?? homedir() });
    })();
    return this.#home;
  }

  /** The client of the home's daemon, which is started if none answers. */
  async connect(): Promise<Kiln> {
    const [home, { ensureDaemon }] = await Promise.all([this.home(), import("./daemon/ensure.ts")]);
    await ensureDaemon({ home, env: this.host.env, signal: this.signal });
    // the failpoint that ended a daemon does not end the next one too
    const { KILN_FAILPOINT: _spent, ...env } = this.host.env;
    const revive = async ({ signal }: { readonly signal: AbortSignal }): Promise<void> => {
      await ensureDaemon({ home, env, signal });
    };
    return this.client({ revive });
  }

  /** The client of the home's daemon, whether it runs or not. */
  async client(options: { readonly revive?: (options: { readonly signal: AbortSignal }) => Promise<void> } = {}): Promise<Kiln> {
    const [home, { Kiln }, { UnixTransport, socketPathOf }] = await Promise.all([
      this.home(),
      import("@kiln/sdk"),
      import("@kiln/sdk/node"),
    ]);
    return new Kiln(new UnixTransport({ socketPath: socketPathOf(home), ...options }));
  }

  print(text: string): Promise<void> {
    return writeTo(this.host.stdout, text);
  }

  printJson(value: unknown): Promise<void> {
    return this.print(`${JSON.stringify(value)}\n`);
  }

  /** A word to a person; with --json stderr is for problems only. */
  async note(text: string): Promise<void> {
    if (!this.json) await writeTo(this.host.stderr, text);
  }
}
