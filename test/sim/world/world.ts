import type { Clock } from "@kiln/std";
import type { Core, Journal } from "../../../packages/daemon/src/operations/core.ts";
import { suspendOperations } from "../../../packages/daemon/src/operations/hand-over.ts";
import { reconcile } from "../../../packages/daemon/src/operations/reconcile.ts";
import { healRegularly } from "../../../packages/daemon/src/operations/heal-vms.ts";
import { sweepRegularly } from "../../../packages/daemon/src/operations/sweep.ts";
import type { HomeUsage } from "../../../packages/daemon/src/operations/usage.port.ts";
import { FakeHost, type FakeHostOptions } from "../../../packages/daemon/src/vmm/fake/host.ts";
import { SimDisk } from "../disk.ts";
import { Life } from "../life.ts";
import type { Scheduler } from "../scheduler.ts";
import { type Capacities, compose, type Composed, type Surroundings } from "./compose.ts";
import { type Faults, NO_FAULTS, Troubles } from "./faults.ts";
import { SimPorts } from "./forwarder.ts";
import { findLeftovers } from "./leftovers.ts";
import { HOME } from "./paths.ts";
import { SimRecords } from "./records.ts";
import { SimRegistry } from "./registry.ts";
import { SimUsage } from "./usage.ts";
import { HOME_DIRECTORIES } from "./vm-files.ts";

export { type Faults, NO_FAULTS } from "./faults.ts";
export { DeadError, isDead } from "./simulated.ts";
export type { SimImage } from "./registry.ts";

export interface SimOptions extends Partial<Capacities>, Omit<FakeHostOptions, "clock"> {
  readonly faults?: Partial<Faults>;
  /** Called when the dice have killed the daemon, or the one that is starting. */
  readonly onKill?: () => void;
}

const MIB = 2 ** 20;
const DEFAULTS: Capacities = { memoryBytes: 4096 * MIB, cpus: 64, diskBytes: 2 ** 50, bootsLimit: 2, preboot: false, pool: "" };
/** A port that is slow takes seconds; what times out does so only where nobody can go on. */
const SLOWEST_STEP_MS = 2_000;

/** A daemon of the simulated world. */
export interface SimDaemon {
  readonly core: Core;
  readonly life: Life;
  readonly usage: HomeUsage;
  /** What it has said, the oldest first. */
  readonly journal: readonly string[];
}

/**
 * A host on which Kiln's use cases run wholly under a scheduler: the real operations, sagas, pipeline, admission, records and
 * agent's host side, on a disk, a clock, guests and registries that are simulated. The same seed gives the same steps.
 */
export class SimWorld {
  readonly scheduler: Scheduler;
  readonly disk: SimDisk;
  readonly host: FakeHost;
  readonly registry = new SimRegistry();
  readonly ports = new SimPorts();
  readonly clock: Clock;
  /** What stands for the agent and the kernel's builder of the daemons to come: with another one, kernel sets are built anew. */
  kernelBuilder = "builder 1";
  /** The one that runs, or that is starting. */
  daemon: SimDaemon | null = null;
  readonly #records: SimRecords;
  readonly #troubles: Troubles;
  readonly #capacities: Capacities;
  #composed: Composed | null = null;
  #daemons = 0;

  private constructor(scheduler: Scheduler, options: SimOptions) {
    const { faults, ...rest } = options;
    this.scheduler = scheduler;
    scheduler.slowestStepMs = SLOWEST_STEP_MS;
    this.clock = scheduler.clockOf();
    this.disk = new SimDisk(scheduler);
    for (const name of HOME_DIRECTORIES) this.disk.create(name);
    this.host = new FakeHost({ ...rest, clock: this.clock });
    this.#records = new SimRecords(scheduler.dice);
    this.#capacities = { ...DEFAULTS, ...rest };
    this.#troubles = new Troubles(scheduler, {
      faults: { ...NO_FAULTS, ...faults },
      kill: () => this.#killByDice(rest.onKill),
      onStep: () => this.#records.onStep(),
    });
  }

  static create(scheduler: Scheduler, options: SimOptions = {}): SimWorld {
    return new SimWorld(scheduler, options);
  }

  get faults(): Faults {
    return this.#troubles.faults;
  }

  /** From the next call of a port on. */
  set faults(faults: Faults) {
    this.#troubles.faults = faults;
  }

  /** No trouble any more, and room on the disk. */
  settle(): void {
    this.faults = NO_FAULTS;
    this.disk.room = Infinity;
  }

  /** What serve.ts does before the first request. It never settles if the daemon is killed meanwhile. */
  async startDaemon(): Promise<SimDaemon> {
    if (this.daemon !== null) throw new Error(`${this.daemon.life.name} holds the home`);
    this.#daemons += 1;
    const life = new Life(`daemon ${this.#daemons}`);
    const journal: string[] = [];
    const composed = compose(this.#surroundings(journal), life);
    const { core, home } = composed;
    const usage = new SimUsage(home);
    const daemon: SimDaemon = { core, life, usage, journal };
    this.daemon = daemon;
    this.#composed = composed;
    await reconcile(core, {
      staging: HOME.staging,
      usage,
      sweepStaging: async () => {
        const left = await usage.staging();
        for (const path of left) await home.files.removeTree(path);
        return left.length;
      },
      remove: (path) => home.files.removeTree(path),
    });
    void sweepRegularly(core);
    void healRegularly(core);
    return daemon;
  }

  #surroundings(lines: string[]): Surroundings {
    const { scheduler, disk, registry, host, ports } = this;
    const write =
      (level: string) =>
      (fields: Readonly<Record<string, unknown>>, message: string): void =>
        void lines.push(`${level}: ${message} ${JSON.stringify(fields)}`);
    const journal: Journal = { info: write("info"), warn: write("warn"), error: write("error") };
    const world = { records: this.#records, troubles: this.#troubles, capacities: this.#capacities, builder: () => this.kernelBuilder };
    return { ...world, scheduler, disk, registry, host, ports, journal };
  }

  /** kill -9: whatever it waits for, it never goes on; its sockets are closed, its guests run on. */
  killDaemon(): void {
    this.daemon?.life.end();
    this.daemon = null;
    this.#composed = null;
  }

  #killByDice(onKill: (() => void) | undefined): void {
    this.killDaemon();
    onKill?.();
  }

  /** An orderly stop, as serve.ts does it: operations wait for the next daemon, VMs run on. */
  async stopDaemon(): Promise<void> {
    const composed = this.#composed;
    if (composed === null) return;
    const { core, beginStop } = composed;
    await suspendOperations(core);
    beginStop();
    await core.pool[Symbol.asyncDispose]();
    await core.ports[Symbol.asyncDispose]();
    await Promise.allSettled(core.running.list().map((run) => run.vmm.detach()));
    if (this.#composed === composed) this.killDaemon();
  }

  /** The host's power fails and comes back: no process is left, and of what was not synced, what the dice leave. */
  losePower(): void {
    this.killDaemon();
    for (const machine of this.host.machines) machine.end({ reason: "killed" });
    this.disk.losePower();
    this.#records.losePower();
  }

  /** What nobody owns in a world that should have no VMs and images and where nothing runs. */
  leftovers(): readonly string[] {
    return findLeftovers({ core: this.daemon?.core ?? null, disk: this.disk, host: this.host, ports: this.ports });
  }
}
