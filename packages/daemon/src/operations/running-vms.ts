import type { KilnError, VmId } from "@kiln/protocol";
import { abortable, Deferred } from "@kiln/std";
import type { AgentSession, ExecAttachment } from "../vms/agent.port.ts";
import type { Vmm, VmmEnd } from "../vms/driver.port.ts";
import type { VmLog } from "../vms/log.port.ts";

/** The exec id of a VM's own command. */
export const MAIN_EXEC = "main";

/** How a VM's command, or the VM under it, ended. */
export interface VmExit {
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly oomKilled: boolean;
  readonly error: KilnError | null;
}

/** One run of a VM: from its VMM's start to the end of all its processes. */
export interface RunningVm {
  readonly id: VmId;
  readonly name: string;
  readonly epoch: number;
  readonly vmm: Vmm;
  readonly log: VmLog;
  /** Replaced when the channel was lost and found again. */
  session: AgentSession;
  main: ExecAttachment | null;
  /** Why it is ending, set by the first who ends it. */
  ending: "stop" | "kill" | "lost" | null;
  /** How the command ended, once the guest has said so; `commandExited` settles then. */
  commandExit: VmExit | null;
  readonly commandExited: Deferred<void>;
  readonly finished: Deferred<VmExit>;
  /** When this daemon took it over from another, on the monotonic clock; null where it started it itself. */
  readonly takenOverMs: number | null;
  /** Settles when a client attaches to its command. */
  readonly attached: Deferred<void>;
  /** Those that are attached to its command: each settles when its client has gone. */
  readonly clients: Set<Promise<void>>;
  /** Who reads each exec now: one who finds another here has been replaced. */
  readonly execReaders: Map<string, object>;
  /** The newest ids of execs that the guest was told to forget: asked for again, they must not run again (I26). */
  readonly forgottenExecs: Set<string>;
  vmmEnd: VmmEnd | null;
}

export const createRun = (
  parts: Pick<RunningVm, "id" | "name" | "epoch" | "vmm" | "log" | "session" | "main" | "takenOverMs">,
): RunningVm => ({
  ...parts,
  attached: new Deferred(),
  clients: new Set(),
  ending: null,
  commandExit: null,
  commandExited: new Deferred(),
  finished: new Deferred(),
  execReaders: new Map(),
  forgottenExecs: new Set(),
  vmmEnd: null,
});

/** The runs of this daemon, and those who wait for one to begin. */
export class RunningVms {
  readonly #runs = new Map<VmId, RunningVm>();
  readonly #awaited = new Map<VmId, Deferred<RunningVm>>();

  get(id: VmId): RunningVm | null {
    return this.#runs.get(id) ?? null;
  }

  list(): readonly RunningVm[] {
    return [...this.#runs.values()];
  }

  begin(run: RunningVm): void {
    this.#runs.set(run.id, run);
    this.#awaited.get(run.id)?.resolve(run);
    this.#awaited.delete(run.id);
  }

  end(run: RunningVm): void {
    if (this.#runs.get(run.id) === run) this.#runs.delete(run.id);
  }

  /** Tells those who wait for a start that there will be none. */
  failStart(id: VmId, error: KilnError): void {
    const awaited = this.#awaited.get(id);
    this.#awaited.delete(id);
    awaited?.reject(error);
  }

  /** The run that is there, or the next that begins. Rejects when that start fails or the VM is removed. */
  async next(id: VmId, options: { signal: AbortSignal }): Promise<RunningVm> {
    const run = this.#runs.get(id);
    if (run !== undefined) return run;
    const awaited = this.#awaited.get(id) ?? new Deferred<RunningVm>();
    this.#awaited.set(id, awaited);
    awaited.promise.catch(() => undefined); // a failed start is reported to those who still wait, and nobody has to
    return abortable(awaited.promise, options.signal);
  }
}
