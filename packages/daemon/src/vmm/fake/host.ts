import type { Clock } from "@kiln/std";
import { Deferred, systemClock } from "@kiln/std";
import type { ProcessIdentity } from "@kiln/std/node";
import type { VmmEnd, VmmSpec } from "../../vms/driver.port.ts";
import { FakeGuest } from "./guest.ts";

/** What goes wrong with one boot: refused with words, dead right after it has started, or without end. */
export type BootFault = "refuse" | "die" | "hang";

export interface FakeHostOptions {
  readonly clock?: Clock;
  /** How long each boot takes. */
  readonly bootMs?: number;
  readonly faultOf?: (spec: VmmSpec) => BootFault | null;
  /** Makes every guest's SETUP fail at this step. */
  readonly failSetupAt?: string;
  /** Called for each command that begins in a guest. */
  readonly onExec?: (machine: FakeMachine, id: string) => void;
}

/** A VMM's process that is none. It ends once. */
export class FakeMachine {
  readonly identity: ProcessIdentity;
  readonly spec: VmmSpec;
  readonly guest: FakeGuest;
  console = "fake guest\n";
  paused = false;
  readonly #ended = new Deferred<VmmEnd>();
  readonly #forget: () => void;

  constructor(spec: VmmSpec, host: FakeHost, pid: number) {
    this.spec = spec;
    this.identity = { bootId: "fake", pidNamespace: "fake", pid, startTime: String(pid) };
    this.guest = new FakeGuest({
      clock: host.clock,
      onPowerOff: () => this.end({ reason: "guest-shutdown" }),
      onExec: (id) => host.options.onExec?.(this, id),
      onHalt: () => this.end({ reason: "vmm-died", detail: "a command has halted it" }),
      ...(host.options.failSetupAt === undefined ? {} : { failSetupAt: host.options.failSetupAt }),
    });
    this.#forget = () => host.machines.delete(this);
  }

  get ended(): Promise<VmmEnd> {
    return this.#ended.promise;
  }

  end(how: VmmEnd): void {
    this.guest.powerCut();
    this.#forget();
    this.#ended.resolve(how);
  }
}

/** The world that fake VMMs run in. It outlives the drivers, so that one can adopt what another has started. */
export class FakeHost {
  readonly options: FakeHostOptions;
  readonly clock: Clock;
  /** Those that run. */
  readonly machines = new Set<FakeMachine>();
  /** How many boots have begun. */
  boots = 0;

  constructor(options: FakeHostOptions = {}) {
    this.options = options;
    this.clock = options.clock ?? systemClock;
  }

  start(spec: VmmSpec): FakeMachine {
    this.boots += 1;
    const machine = new FakeMachine(spec, this, this.boots);
    this.machines.add(machine);
    return machine;
  }

  find(vmId: string): FakeMachine | null {
    return [...this.machines].find((machine) => machine.spec.id === vmId) ?? null;
  }
}
