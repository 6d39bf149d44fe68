import { setTimeout as sleep } from "node:timers/promises";
import type { Kiln } from "@kiln/sdk";
import { pssMib } from "../proc-memory.ts";

const LOOK_MS = 1_000;

interface Look {
  readonly daemon: number;
  readonly guests: readonly number[];
}

/** Looks once a second at what the daemon and the VMMs hold of the host's memory, shared pages in parts, until it is stopped. */
export class MemoryWatch {
  readonly #kiln: Kiln;
  readonly #daemon: number;
  readonly #stopped = new AbortController();
  readonly #looks: Look[] = [];
  readonly #running: Promise<void>;

  constructor(kiln: Kiln, daemon: number) {
    this.#kiln = kiln;
    this.#daemon = daemon;
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      this.#looks.push(await this.#look());
      await sleep(LOOK_MS, undefined, { signal: this.#stopped.signal }).catch((error: unknown) => {
        if (!this.#stopped.signal.aborted) throw error;
      });
    }
  }

  async #look(): Promise<Look> {
    const pids = (await this.#kiln.vms.list()).flatMap(({ pid }) => (pid === null || pid === this.#daemon ? [] : [pid]));
    const guests = await Promise.all(pids.map(pssMib));
    return { daemon: (await pssMib(this.#daemon)) ?? 0, guests: guests.filter((one) => one !== null) };
  }

  /** The most that each held at one look. */
  async stop(): Promise<Readonly<Record<string, number>>> {
    this.#stopped.abort();
    await this.#running;
    const sums = this.#looks.map(({ guests }) => guests.reduce((sum, one) => sum + one, 0));
    const most = Math.max(0, ...sums);
    const at = this.#looks[sums.indexOf(most)];
    return {
      "daemon's PSS at most, MiB": Math.round(Math.max(0, ...this.#looks.map(({ daemon }) => daemon))),
      "guests' PSS at most, MiB": Math.round(most),
      "guests then": at?.guests.length ?? 0,
    };
  }
}
