import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import type { BootFault } from "../../../packages/daemon/src/vmm/fake/host.ts";
import { Scheduler } from "../scheduler.ts";
import { NO_FAULTS } from "../world/faults.ts";
import { type SimOptions, SimWorld } from "../world/world.ts";
import { Client, MIB, VM_BYTES } from "./client.ts";
import { runFates } from "./fates.ts";
import { House } from "./house.ts";
import { stock } from "./images.ts";
import { Oracle } from "./oracle.ts";
import type { Program } from "./program.ts";
import { settle } from "./settle.ts";
import { Violation } from "./violation.ts";

export interface RunOptions {
  readonly trace?: boolean;
  /** What is wrong with the core that clients get, and with the world, for tests of the checks. */
  readonly breakCore?: (core: Core) => Core;
  readonly breakWorld?: (world: SimWorld) => void;
}

export interface Outcome {
  readonly seed: number;
  /** null: all was well. */
  readonly failure: Error | null;
  readonly steps: number;
  /** How many daemons ended without an order. */
  readonly crashes: number;
  readonly trace: readonly string[];
}

/** More than any program needs; past it something goes round in circles. */
const MAX_STEPS = 60_000;
/** Of virtual time. Where nobody goes on, only the daemon's regular sweeps pass. */
const LONGEST_MS = 48 * 3_600_000;

/** Runs a program once in the order of `seed`. */
export const runProgram = async (program: Program, seed: number, options: RunOptions = {}): Promise<Outcome> => {
  let onStep = (): void => undefined;
  let crashes = (): number => 0;
  const scheduler = new Scheduler(seed, { trace: options.trace ?? false, maxSteps: MAX_STEPS, onStep: () => onStep() });
  const main = async (): Promise<void> => {
    const world = SimWorld.create(scheduler, {
      ...toSimOptions(program),
      faultOf: () => (scheduler.dice.chance(house.isSettling ? 0 : program.setting.badBoots) ? scheduler.dice.pick(BOOT_FAULTS) : null),
      onExec: (_machine, id) => oracle.ran(id),
      onKill: () => house.onKill(),
    });
    stock(world.registry);
    options.breakWorld?.(world);
    const house = new House(world, options.breakCore === undefined ? {} : { break: options.breakCore });
    const oracle = new Oracle(house);
    onStep = () => {
      if (scheduler.clockOf().monotonicMs() > LONGEST_MS) throw new Violation("hang", "somebody waits for ever");
      house.onStep();
      oracle.look();
    };
    crashes = () => house.crashes;
    const play = async (): Promise<void> => {
      await house.start();
      const clients = program.clients.map((commands, index) => new Client(`client ${index}`, { house, oracle, program }).run(commands));
      await Promise.all([...clients, runFates(program.fates, house)]);
      await settle(house, oracle);
    };
    await Promise.race([play(), house.failed.promise]);
  };
  let failure: Error | null = null;
  try {
    await scheduler.run(main);
  } catch (error) {
    failure = error instanceof Error ? error : new Error(String(error));
  }
  return { seed, failure, steps: scheduler.steps, crashes: crashes(), trace: scheduler.trace ?? [] };
};

/** One guest of the smallest kind. */
const POOL = `1:1x${VM_BYTES / MIB}m`;
const BOOT_FAULTS: readonly BootFault[] = ["refuse", "die", "hang"];

const toSimOptions = ({ setting }: Program): SimOptions => {
  const { vms, bootsLimit, bootMs, preboot, pool, faults } = setting;
  return {
    ...{ memoryBytes: vms * VM_BYTES, cpus: vms, bootsLimit, bootMs, preboot },
    pool: pool ? POOL : "",
    faults: { ...NO_FAULTS, ...faults },
  };
};
