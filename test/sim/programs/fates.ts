import type { FakeMachine } from "../../../packages/daemon/src/vmm/fake/host.ts";
import type { House } from "./house.ts";
import type { Fate } from "./program.ts";

/** One after the other, beside what clients do. */
export const runFates = async (fates: readonly Fate[], house: House): Promise<void> => {
  for (const fate of fates) {
    await house.later(fate.after);
    await runFate(fate, house);
  }
};

const runFate = async (fate: Fate, house: House): Promise<void> => {
  const { world } = house;
  switch (fate.do) {
    case "daemon.kill":
      house.kill();
      return startAgain(fate, house);
    case "daemon.stop":
      await house.stop();
      return startAgain(fate, house);
    case "power.loss":
      house.losePower();
      return startAgain(fate, house);
    case "vmm.die":
      return pick([...world.host.machines], fate.which)?.end({ reason: "vmm-died", detail: "the simulation has killed it" });
    case "guest.off":
      return pick([...world.host.machines], fate.which)?.end({ reason: "guest-shutdown" });
    case "registry.move":
      return house.moves.move(world.registry, fate.image);
    case "damage":
      return damage(fate.which, house);
    case "disk.full":
      world.disk.room = fate.bytes;
      await house.later(fate.steps);
      world.disk.room = Infinity;
  }
};

const startAgain = async ({ down }: { readonly down: number }, house: House): Promise<void> => {
  await house.later(down);
  if (house.core === null) await house.start();
};

const damage = (which: number, { world, damaged }: House): void => {
  const path = pick(publishedFiles(world.disk.list("")), which);
  if (path === undefined) return;
  world.disk.damage(path);
  damaged.add(path);
};

/** Not those of VMs: a guest's disk is its own. */
const publishedFiles = (paths: readonly string[]): string[] => paths.filter((path) => /\/(rootfs|content|kernels|preboots)\//.test(path));

const pick = <Item extends FakeMachine | string>(items: readonly Item[], which: number): Item | undefined =>
  items.length === 0 ? undefined : items[which % items.length];
