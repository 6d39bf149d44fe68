import { KilnError } from "@kiln/protocol";
import { removeImage } from "../../../packages/daemon/src/operations/images.ts";
import { removeVm } from "../../../packages/daemon/src/operations/remove-vm.ts";
import { beginStopVm } from "../../../packages/daemon/src/operations/stop-vm.ts";
import { create, exec } from "./live.fixture.ts";
import type { SimDaemon, SimWorld } from "./world.ts";

const { signal } = new AbortController();
const CLIENTS = 2;
const ROUNDS = 2;
/** Half as long again as what a failed pull has fetched is kept. */
const LINGERED_MS = 15 * 60_000;

/** Clients of a world whose daemons come and go: each finds the next one. */
class Storm {
  readonly #world: SimWorld;
  readonly #ready = new Set<SimDaemon>();

  constructor(world: SimWorld) {
    this.#world = world;
  }

  async daemon(): Promise<SimDaemon> {
    for (;;) {
      const { daemon } = this.#world;
      if (daemon !== null && this.#ready.has(daemon)) return daemon;
      if (daemon === null) await this.#start();
      else await Promise.race([daemon.life.ended, this.#world.clock.sleep(20, { signal })]);
    }
  }

  async #start(): Promise<void> {
    const started = this.#world.startDaemon();
    const begun = this.#world.daemon;
    await Promise.race([started.then((daemon) => this.#ready.add(daemon)), begun?.life.ended]);
  }

  /** Until it is done, or the daemon has gone, or it has failed with a code. */
  async try(work: (daemon: SimDaemon) => Promise<unknown>): Promise<void> {
    const daemon = await this.daemon();
    try {
      await Promise.race([work(daemon), daemon.life.ended]);
    } catch (error) {
      if (!(error instanceof KilnError) || error.code === "INTERNAL") throw error;
    }
  }

  async client(trouble: () => void): Promise<void> {
    const { dice } = this.#world.scheduler;
    for (let round = 0; round < ROUNDS; round += 1) {
      const name = `vm-${dice.below(2)}`;
      const image = dice.pick(["deb:busybox", "web:1"]);
      await this.try((daemon) => create(daemon, { name, image, ports: [{ hostPort: 0, guestPort: 7 }] }));
      trouble();
      await this.try((daemon) => exec(daemon, name, ["echo", "hi"]));
      await this.try(async ({ core }) => {
        const { id } = beginStopVm(core, name, { timeoutMs: 1_000, idempotencyKey: null, caller: "" });
        await core.operations.wait(id, { signal });
      });
      await this.try(async ({ core }) => {
        const record = core.vms.find(name);
        if (record !== null) await removeVm(core, record.id, { force: true });
      });
      await this.try(({ core }) => removeImage(core, image));
    }
  }
}

/**
 * Clients make, use and remove VMs while daemons end, one way or another; then all of it is removed. `trouble` is called
 * in the middle of each round.
 */
export const storm = async (world: SimWorld, trouble: () => void = () => undefined): Promise<void> => {
  world.registry.put("deb:busybox", { layers: ["busybox"], command: ["sh"] });
  world.registry.put("web:1", { layers: ["base", "web"], command: ["web"] });
  const clients = new Storm(world);
  await Promise.all(Array.from({ length: CLIENTS }, () => clients.client(trouble)));
  world.settle();
  await clients.daemon();
  if (world.scheduler.dice.chance(0.5)) await world.stopDaemon();
  else world.killDaemon();
  const { core } = await clients.daemon();
  await core.operations.drain();
  for (const { id } of core.vms.list()) await removeVm(core, id, { force: true });
  for (const { reference } of core.images.listImages()) await removeImage(core, reference);
  await world.clock.sleep(LINGERED_MS, { signal });
};
