import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { release } from "node:os";
import { join } from "node:path";
import { KilnError } from "@kiln/protocol";
import { abortable, type Clock, Deferred, SingleFlight, withDeadline } from "@kiln/std";
import { hasCode, publishBytes } from "@kiln/std/node";
import { z } from "zod";
import type { KernelFiles } from "../../vms/driver.port.ts";
import { VMM_LIMITS } from "../limits.ts";
import { endProcess, findProcesses } from "../../host/proc.ts";
import { type Accel, AGENT_DEVICE_ID } from "./args.ts";
import { findKvmAccess } from "./kvm-device.ts";
import { launchQemu, MARKER } from "./launch.ts";
import type { QmpEvent } from "./qmp.ts";

const verdictSchema = z.object({ accel: z.enum(["kvm", "tcg"]), group: z.number().int().nullable(), reason: z.string() });
const cacheSchema = z.object({ key: z.string(), verdict: verdictSchema });

/** `group`: the group by which a VMM may open /dev/kvm, where it needs one. */
export interface AccelVerdict {
  readonly accel: Accel;
  readonly group: number | null;
  readonly reason: string;
}

export interface AccelQuestion {
  readonly binary: string;
  readonly version: string;
  readonly kernel: KernelFiles;
  /** The uid that the guest of the trial runs as: one that is no VM's. */
  readonly uid: number | null;
}

const TRIAL_PREFIX = "accel-";
const PROBE_MEMORY_BYTES = 256 * 2 ** 20;

/**
 * Decides between KVM and TCG by booting. /dev/kvm may open and KVM_CREATE_VM succeed where a guest then never
 * runs: only a guest that has opened its port is proof. The answer is kept with all that it depends on.
 */
export class AccelChooser {
  readonly #cacheDir: string;
  readonly #stagingDir: string;
  readonly #clock: Clock;
  readonly #flights = new SingleFlight<string, AccelVerdict>();
  /** After the first trial those that run are this daemon's own. */
  #swept = false;
  readonly #known = new Map<string, AccelVerdict>();

  constructor(parts: { cacheDir: string; stagingDir: string; clock: Clock }) {
    this.#cacheDir = parts.cacheDir;
    this.#stagingDir = parts.stagingDir;
    this.#clock = parts.clock;
  }

  /** Joined by all who ask at once. Where KVM is out of reach it answers without a trial. */
  async choose(question: AccelQuestion, options: { signal: AbortSignal }): Promise<AccelVerdict> {
    const access = await findKvmAccess(question.uid);
    if (!access.usable) return { accel: "tcg", group: null, reason: access.reason };
    const key = await cacheKey(question, access.group);
    const known = this.#known.get(key) ?? (await this.#read(key));
    if (known !== null) return known;
    return this.#flights.run(key, ({ signal }) => this.#try(key, question, { group: access.group, signal }), options);
  }

  async #try(key: string, question: AccelQuestion, trial: { group: number | null; signal: AbortSignal }): Promise<AccelVerdict> {
    if (!this.#swept) await this.#endOldTrials(trial.signal);
    this.#swept = true;
    const verdict = await this.#boot(question, trial);
    await mkdir(this.#cacheDir, { recursive: true, mode: 0o700 });
    const bytes = `${JSON.stringify({ key, verdict })}\n`;
    await publishBytes({ target: this.#file, stagingDir: this.#stagingDir, bytes, ifExists: "replace" });
    this.#known.set(key, verdict);
    return verdict;
  }

  /** A trial of a daemon that was killed in the middle of it would spin for ever. */
  async #endOldTrials(signal: AbortSignal): Promise<void> {
    const below = `${this.#stagingDir}/${TRIAL_PREFIX}`;
    const old = await findProcesses((environment) => environment.get(MARKER.directory)?.startsWith(below) === true);
    await Promise.all(old.map(({ identity }) => endProcess(identity, { clock: this.#clock, signal })));
  }

  async #boot(question: AccelQuestion, { group, signal }: { group: number | null; signal: AbortSignal }): Promise<AccelVerdict> {
    const startMs = this.#clock.monotonicMs();
    try {
      await withDeadline(VMM_LIMITS.probeMs, (bounded) => this.#bootOnce(question, { group, signal: bounded }), {
        ...{ signal, clock: this.#clock },
        onTimeout: () => new KilnError("VMM_FAILED", `KVM is there, but a guest did not start with it within ${VMM_LIMITS.probeMs} ms`),
      });
      const tookMs = Math.round(this.#clock.monotonicMs() - startMs);
      return { accel: "kvm", group, reason: `a guest started with KVM in ${tookMs} ms` };
    } catch (error) {
      if (signal.aborted || !(error instanceof KilnError) || error.code !== "VMM_FAILED") throw error;
      return { accel: "tcg", group: null, reason: error.message };
    }
  }

  /** Returning or throwing means: the trial's QEMU is gone. */
  async #bootOnce(question: AccelQuestion, { group, signal }: { group: number | null; signal: AbortSignal }): Promise<void> {
    await mkdir(this.#stagingDir, { recursive: true, mode: 0o700 });
    const directory = await mkdtemp(join(this.#stagingDir, TRIAL_PREFIX));
    await using undo = new AsyncDisposableStack();
    undo.defer(() => rm(directory, { recursive: true, force: true }));
    const opened = new Deferred<void>();
    const onEvent = (event: QmpEvent): void => {
      if (isPortOpen(event)) opened.resolve();
      if (event.name === "SHUTDOWN") opened.reject(new KilnError("VMM_FAILED", "a guest started with KVM ended before it was up"));
    };
    opened.promise.catch(() => undefined);
    const { binary, kernel, uid } = question;
    const spec = { id: "accel", cpus: 1, memoryBytes: PROBE_MEMORY_BYTES, kernel, disks: [], network: null, directory, uid };
    const { process, qmp } = await launchQemu(
      { binary, spec, accel: "kvm", group, begin: { from: "kernel" }, onEvent },
      { clock: this.#clock, signal },
    );
    undo.defer(async () => {
      await process.end();
      qmp.close();
    });
    const gone = process.gone.then((detail) => opened.reject(new KilnError("VMM_FAILED", detail)));
    await abortable(Promise.race([opened.promise, gone.then(() => opened.promise)]), signal);
  }

  async #read(key: string): Promise<AccelVerdict | null> {
    const parsed = cacheSchema.safeParse(await readJson(this.#file));
    if (!parsed.success || parsed.data.key !== key) return null;
    this.#known.set(key, parsed.data.verdict);
    return parsed.data.verdict;
  }

  get #file(): string {
    return join(this.#cacheDir, "accel.json");
  }
}

/** The guest's agent has opened its end of the port. */
const isPortOpen = ({ name, data }: QmpEvent): boolean =>
  name === "VSERPORT_CHANGE" && data["id"] === AGENT_DEVICE_ID && data["open"] === true;

const cacheKey = async ({ binary, version, kernel }: AccelQuestion, group: number | null): Promise<string> => {
  const bootId = (await readFile("/proc/sys/kernel/random/boot_id", "latin1")).trim();
  return [release(), bootId, binary, version, kernel.digest, group].join(" ");
};

/** null where there is no file, or none that can be read as JSON: the trial then runs again. */
const readJson = async (path: string): Promise<unknown> => {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    if (hasCode(error, "ENOENT") || error instanceof SyntaxError) return null;
    throw error;
  }
};
