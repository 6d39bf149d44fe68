import { KilnError } from "@kiln/protocol";
import { SimDisk } from "../../sim/disk.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { plant, publishBy, toBytes, toText } from "../kiln/publish.ts";
import { createKilnRootfs, GOOD, ROOTFS, type World } from "../kiln/rootfs.ts";
import { Actor, actors, outcomeOf } from "../stage.ts";

/** Makes the rootfs again; the content is what the builder gives this time. Throws where that is not right. */
type Redo = (content: string) => Promise<void>;

const scenario = async (scheduler: Scheduler, underTest: (world: World) => Redo): Promise<void> => {
  const world = { scheduler, disk: new SimDisk(scheduler) };
  plant(world.disk, ROOTFS, GOOD);
  const redo = underTest(world);
  const [ann, bob] = actors(scheduler, "ann", "bob") as [Actor, Actor];
  const isGood = (): boolean => toText(world.disk.peek(ROOTFS) ?? toBytes("")) === GOOD;
  const works = scheduler.dice.chance(0.5);
  const rebuild = async (): Promise<void> => {
    await ann.step("rebuild the image");
    const outcome = await outcomeOf(redo(works ? GOOD : "what a broken layer gives"));
    ann.says(outcome.ok ? "is told that it is done" : `is told: ${outcome.error.message}`);
    must(outcome.ok === works, "ann was told something else than what has happened");
    must(isGood(), "the redo has failed, and the good rootfs has gone");
  };
  const start = async (): Promise<void> => {
    for (let vm = 1; vm <= 3; vm += 1) {
      await bob.step("start a VM");
      must(isGood(), "bob cannot start a VM: the good rootfs has gone, and the new one is not there yet");
    }
  };
  await Promise.all([rebuild(), start()]);
};

const kilnRedo = (world: World): Redo => {
  let content = GOOD;
  const { redo } = createKilnRootfs(world, { content: () => content });
  return async (made) => {
    content = made;
    await redo();
  };
};

/** "Redo" is: remove, then build. */
const naiveRedo = (world: World): Redo => {
  const builder = new Actor(world.scheduler, "builder");
  return async (content) => {
    const files = builder.files(world.disk);
    await files.remove(ROOTFS);
    await publishBy(builder, world, {
      ...{ target: ROOTFS, ifExists: "keep", write: (path) => files.append(path, toBytes(content)) },
      verify: async () => {
        if (content !== GOOD) throw new KilnError("ROOTFS_INVALID", "the new rootfs is not what its layers give");
      },
    });
  };
};

export const exhibit: Exhibit = {
  id: "I14",
  title: "Redo removes the good one first, and then the build fails",
  story: [
    "A command that makes an artifact again is used when something looks wrong with it, and is written as remove and build, since those",
    "two are there. While it builds nobody can start, and when the build fails (the registry is down, the disk is full, which may be why",
    "somebody asked) the good one is gone for everybody.",
    "Order: ann rebuilds, the old rootfs goes; bob cannot start; the build fails; nobody can.",
    "Kiln builds beside, reads the new one back, and renames it over the old one, which then has no name; VMs that run on it have it",
    "open and keep it. A failure leaves the old one where it was. Those who ask at the same time join.",
    "Code: `packages/daemon/src/pipeline/checks.ts` (rebuildRootfs), `operations/rebuild-image.ts`.",
  ],
  complaint: "the good rootfs has gone",
  kiln: (scheduler) => scenario(scheduler, kilnRedo),
  naive: (scheduler) => scenario(scheduler, naiveRedo),
};
