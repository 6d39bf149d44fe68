import { SimDisk } from "../sim/disk.ts";
import type { Scheduler } from "../sim/scheduler.ts";
import { must } from "./exhibit.ts";
import { toText } from "./kiln/publish.ts";
import { createKilnRootfs, GOOD, ROOTFS, type World } from "./kiln/rootfs.ts";
import { Actor, actors } from "./stage.ts";

/** The rootfs is there and whole when it returns; built where it has to be. */
export type Ensure = (caller: Actor) => Promise<void>;

/** A rootfs is built, a disk damages its file, and two VMs are started from it. */
export const damagedRootfs = async (scheduler: Scheduler, underTest: (world: World) => Ensure): Promise<void> => {
  const world = { scheduler, disk: new SimDisk(scheduler) };
  const ensure = underTest(world);
  await ensure(new Actor(scheduler, "first"));
  const harm = scheduler.dice.pick(["changes a byte of", "cuts off", "loses"] as const);
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
};

export const kilnEnsure = (world: World): Ensure => {
  const { ensure } = createKilnRootfs(world);
  return async () => void (await ensure());
};
