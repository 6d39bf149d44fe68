/** What a smoke scenario is, and the place in which it runs. */
import type { Cli } from "./cli.ts";

/** What every scenario has. */
export interface Place {
  /** Aborted when the scenario's time is over. */
  readonly signal: AbortSignal;
  /** A directory of its own. */
  readonly scratch: string;
  /** Other words in each run, for what would be found again. */
  readonly nonce: string;
  /** The name of a VM that is this scenario's alone: it is removed at its end. */
  vm(word: string): string;
  /** The name of an image that is this scenario's alone: it is removed at its end. */
  image(word: string): string;
  /** What goes with the scenario, whether it passes or not. */
  use<Resource extends AsyncDisposable | Disposable>(resource: Resource): Resource;
}

/** A place in a home that others use at the same time. */
export interface SharedPlace extends Place {
  readonly kiln: Cli;
}

export interface HomeOptions {
  /** prepared: with the kernel, the images and the snapshot of SHAPE; empty: there is nothing. */
  readonly from: "prepared" | "empty";
  /** Of every command, and so of the daemon. */
  readonly env?: Readonly<Record<string, string>>;
  /** Where the home is to be; else a directory of its own. */
  readonly at?: string;
}

/** A place where nothing else runs. */
export interface WholePlace extends Place {
  /** A home of the scenario's own; its daemon does not run yet. */
  home(options: HomeOptions): Promise<Cli>;
}

interface Named {
  readonly name: string;
  /** What it shows, as a sentence. */
  readonly shows: string;
  /** In place of DEADLINE_MS. */
  readonly deadlineMs?: number;
  /** Why it cannot run here; it is listed, and not run. */
  readonly skip?: string | false;
}

/** Uses VMs and images of its own names, so that it may share a home and a daemon with others at the same time. */
export interface IsolatedScenario extends Named {
  readonly kind: "isolated";
  readonly run: (place: SharedPlace) => Promise<void>;
}

/** Wants a home of its own, or changes the whole of one: it runs alone. */
export interface GlobalScenario extends Named {
  readonly kind: "global";
  readonly run: (place: WholePlace) => Promise<void>;
}

export type Scenario = IsolatedScenario | GlobalScenario;

export const isolated = (name: string, shows: string, run: IsolatedScenario["run"]): IsolatedScenario => ({
  ...{ kind: "isolated", name, shows, run },
});

export const global = (name: string, shows: string, run: GlobalScenario["run"]): GlobalScenario => ({ kind: "global", name, shows, run });
