import { SimDisk } from "../sim/disk.ts";
import type { Scheduler } from "../sim/scheduler.ts";
import { must } from "./exhibit.ts";
import { toText } from "./kiln/publish.ts";
import { createKilnRootfs, GOOD, ROOTFS, type World } from "./kiln/rootfs.ts";
import { Actor, actors } from "./stage.ts";

/** The rootfs is there and whole when it returns; built where it has to be. */
export type Ensure = (caller: Actor) => Promise<void>;

/** What a look at the size shows is half of them. */
const HARMS = ["changes a byte of", "changes a byte of", "cuts off", "loses"] as const;

/** A rootfs is built, a disk damages its file, and two VMs are started from it. */
export const damagedRootfs = async (scheduler: Scheduler, underTest: (world: World, onBuild: () => void) => Ensure): Promise<void> => {
  const world = { scheduler, disk: new SimDisk(scheduler) };
  let builds = 0;
  const ensure = underTest(world, () => (builds += 1));
  await ensure(new Actor(scheduler, "first"));
  const harm = scheduler.dice.pick(HARMS);
  scheduler.trace?.push(`  the disk ${harm} the rootfs`);
  if (harm === "changes a byte of") world.disk.damage(ROOTFS);
  else if (harm === "cuts off") world.disk.truncate(ROOTFS);
  else world.disk.remove(ROOTFS);
  await Promise.all(
    actors(scheduler, "ann", "bob").map(async (caller) => {
      await caller.step("start a VM");
      await ensure(caller);
      caller.says("is told that the rootfs is there");
      await caller.step("open it");
      const found = world.disk.peek(ROOTFS);
      must(found !== null, `${caller.name} was given the rootfs, and it has gone before it was opened`);
      must(toText(found) === GOOD, `${caller.name} starts a VM on a damaged rootfs`);
    }),
  );
  must(builds === 2, `one damage, and the rootfs was built ${builds - 1} times again`);
};

export const kilnEnsure = (world: World, onBuild: () => void): Ensure => {
  const { ensure } = createKilnRootfs(world, { onBuild });
  return async () => void (await ensure());
};
