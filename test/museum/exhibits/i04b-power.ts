import { SimDisk } from "../../sim/disk.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { publishBy, STAGING, toBytes, toText } from "../kiln/publish.ts";
import { type Actor, actors } from "../stage.ts";

interface World {
  readonly scheduler: Scheduler;
  readonly disk: SimDisk;
}
type Replace = (writer: Actor, world: World, content: string) => Promise<void>;

const MANIFEST = "/home/images/manifest.json";
const [OLD, NEW] = ["the old manifest, which was synced", "the new manifest, which is longer than one block"];

const scenario = async (scheduler: Scheduler, replace: Replace): Promise<void> => {
  const world = { scheduler, disk: new SimDisk(scheduler) };
  const [before, writer, power] = actors(scheduler, "before", "writer", "power") as [Actor, Actor, Actor];
  await publishBy(before, world, {
    ...{ target: MANIFEST, ifExists: "fail" },
    write: (path, files) => files.append(path, toBytes(OLD)),
  });
  let isDone = false;
  void replace(writer, world, NEW).then(() => {
    isDone = true;
    writer.says("is done, and says so");
  });
  const afterSteps = scheduler.dice.below(12);
  for (let step = 0; step < afterSteps; step += 1) await power.step("is there");
  await power.step("fails");
  writer.life.end();
  world.disk.losePower();
  const bytes = world.disk.peek(MANIFEST);
  const found = bytes === null ? null : toText(bytes);
  power.says(`comes back: the manifest has ${found?.length ?? "no"} bytes`);
  must(
    found === OLD || found === NEW,
    `after the power failure the manifest has ${found?.length ?? "no"} bytes, of ${OLD.length} or ${NEW.length}`,
  );
  must(!isDone || found === NEW, "the writer was done, and after the power failure the old manifest is there");
};

const kilnReplace: Replace = async (writer, world, content) => {
  const write = (path: string): Promise<void> => writer.files(world.disk).append(path, toBytes(content));
  await publishBy(writer, world, { target: MANIFEST, ifExists: "replace", write });
};

/** Beside, then rename: nobody can see a half. */
const naiveReplace: Replace = async (writer, { disk }, content) => {
  const files = writer.files(disk);
  const staged = `${STAGING}/manifest`;
  await files.create(staged);
  await files.append(staged, toBytes(content));
  await files.rename(staged, MANIFEST);
};

export const exhibit: Exhibit = {
  id: "I4b",
  title: "Renamed without fsync: after a power failure the new file is there, and empty",
  story: [
    "Writing beside and renaming is atomic for those who look; it says nothing of the disk. A file system may make the new name safe",
    "before the bytes that it leads to. This is the ext4 of 2009, when desktops came up with empty settings, and it has emptied",
    "manifests of container stores and databases of package managers since.",
    "Order: the writer writes and renames; the journal of the file system is written, the pages of the file are not; the power fails;",
    "the name leads to a file of no bytes, and the old one is gone.",
    "Kiln syncs the file before it has its name, and the directory before it says so.",
    "Code: `packages/std/src/node/publish-file.ts`; what a VM's start needs is compared with its record once more (I7).",
  ],
  complaint: "after the power failure the manifest has 0 bytes",
  kiln: (scheduler) => scenario(scheduler, kilnReplace),
  naive: (scheduler) => scenario(scheduler, naiveReplace),
};
