import { SimDisk } from "../../sim/disk.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { fingerprintOfInfo, plant, toBytes, toText } from "../kiln/publish.ts";
import { createKilnRootfs, GOOD, ROOTFS, type World } from "../kiln/rootfs.ts";
import { type Actor, actors } from "../stage.ts";

/** Brings the shared file up to date. */
interface Seed {
  refresh(caller: Actor): Promise<void>;
  /** What the record says of the file; null where it says nothing yet. */
  recorded(): string | null;
}

const OLD = "an older seed, from which disks of VMs are copied";

const scenario = async (scheduler: Scheduler, underTest: (world: World) => Seed): Promise<void> => {
  const world = { scheduler, disk: new SimDisk(scheduler) };
  plant(world.disk, ROOTFS, OLD);
  const seed = underTest(world);
  const [ann, bob, vm] = actors(scheduler, "ann", "bob", "vm") as [Actor, Actor, Actor];
  const refresh = async (caller: Actor): Promise<void> => {
    await caller.step("refresh the seed");
    await seed.refresh(caller);
  };
  const copy = async (): Promise<void> => {
    for (let time = 1; time <= 3; time += 1) {
      const seen = toText(await vm.files(world.disk).read(ROOTFS));
      must(seen === OLD || seen === GOOD, `a VM was given a copy of ${seen.length} bytes, which is neither the old seed nor the new one`);
    }
  };
  await Promise.all([refresh(ann), refresh(bob), copy()]);
  const info = world.disk.info(ROOTFS);
  must(toText(world.disk.peek(ROOTFS) ?? toBytes("")) === GOOD, "two refreshes at once have left a seed that is none");
  must(info !== null && seed.recorded() === JSON.stringify(fingerprintOfInfo(info)), "what is recorded is not the file that is there");
};

const kilnSeed = (world: World): Seed => {
  const { redo, recorded } = createKilnRootfs(world);
  return {
    refresh: async () => void (await redo()),
    recorded: () => {
      const record = recorded();
      return record === null ? null : JSON.stringify(record.fingerprint);
    },
  };
};

/** The file is opened, changed and closed; then it is recorded what it has become. */
const naiveSeed = ({ disk }: World): Seed => {
  let recorded: string | null = null;
  return {
    refresh: async (caller) => {
      const files = caller.files(disk);
      await files.truncate(ROOTFS);
      await files.append(ROOTFS, toBytes(GOOD));
      await files.sync(ROOTFS);
      const info = await files.info(ROOTFS);
      recorded = info === null ? null : JSON.stringify(fingerprintOfInfo(info));
    },
    recorded: () => recorded,
  };
};

export const exhibit: Exhibit = {
  id: "I5",
  title: "A file that others copy is refreshed in place",
  story: [
    "A seed is a file from which disks are copied: an empty file system, a base image. Refreshing it in place, with mount, fsck or a",
    "tool that patches it, is one command. Whoever copies it in that second gets half of the old and half of the new, and two refreshes",
    "at once write into each other; the fingerprint that is recorded is of neither.",
    "Order: ann's refresh has the file truncated and is writing; a VM copies it; or bob's refresh truncates it under ann's.",
    "Kiln changes no shared file: it is built beside, checked, and renamed to the name; the fingerprint is that of the file that was",
    "renamed, and is recorded after that; two refreshes at once are one, which both wait for. Disks that VMs copy do not exist in Kiln",
    "yet: what is shown is the rebuild of a rootfs, which is the same to those who read it.",
    "Code: `packages/daemon/src/pipeline/checks.ts` (rebuildRootfs), `packages/std/src/node/publish-file.ts` (`replace`).",
  ],
  complaint: "which is neither the old seed nor the new one",
  kiln: (scheduler) => scenario(scheduler, kilnSeed),
  naive: (scheduler) => scenario(scheduler, naiveSeed),
};
