import { createVmRequest, type CreateVmRequest, type OperationView, type VmId } from "@kiln/protocol";
import type { Core } from "../../packages/daemon/src/operations/core.ts";
import { beginCreateVm } from "../../packages/daemon/src/operations/create-vm.ts";
import type { Scheduler } from "../sim/scheduler.ts";
import { type SimOptions, SimWorld } from "../sim/world/world.ts";

export const IMAGE = "deb:web";
/** One order of a whole daemon takes as long as twenty of a lock. */
export const SEEDS_OF_A_DAEMON = 25;
const NEVER = new AbortController().signal;
const NOBODY = { idempotencyKey: null, credentials: {}, caller: "" };

/** A daemon of the simulated world: Kiln's own core, on guests, disks and a registry that are played. */
export const openDaemon = async (scheduler: Scheduler, options: SimOptions = {}): Promise<{ world: SimWorld; core: Core }> => {
  const world = SimWorld.create(scheduler, options);
  world.registry.put(IMAGE, { layers: ["base", "web"] });
  const { core } = await world.startDaemon();
  return { world, core };
};

export const ended = (core: Core, operation: OperationView): Promise<OperationView> =>
  core.operations.wait(operation.id, { signal: NEVER });

export const beginCreate = (core: Core, request: Partial<CreateVmRequest> & { name: string }): OperationView =>
  beginCreateVm(core, createVmRequest.parse({ image: IMAGE, command: ["sleep", "1000"], startMode: "cold", ...request }), NOBODY);

/** As `kiln create`, or `kiln run` with `start`. */
export const create = async (core: Core, request: Partial<CreateVmRequest> & { name: string }): Promise<OperationView> =>
  ended(core, beginCreate(core, request));

export const whatItSaid = ({ state, error }: OperationView): string => (error === null ? state : `${error.code}: ${error.detail}`);

/** What came before is no part of the trace: only that it was. */
export const sceneOf = (scheduler: Scheduler, before: string): void => {
  scheduler.trace?.splice(0, Infinity, `  before: ${before}, ${scheduler.steps} steps`);
};

/** The VM of an operation that has succeeded. */
export const vmOf = ({ result }: OperationView): VmId => result as VmId;
