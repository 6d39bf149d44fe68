import { SimDisk } from "../sim/disk.ts";
import type { Scheduler } from "../sim/scheduler.ts";
import { must } from "./exhibit.ts";
import { plant, publishBy, toBytes, toText } from "./kiln/publish.ts";
import { type Actor, actors } from "./stage.ts";

export interface World {
  readonly scheduler: Scheduler;
  readonly disk: SimDisk;
}
/** Puts new content in the place of a file. */
export type Replace = (writer: Actor, world: World, content: string) => Promise<void>;

export const MANIFEST = "/home/images/manifest.json";
const [OLD, NEW] = ["the old manifest, which was synced", "the new manifest, which is longer than one block"];

/** A file is replaced, and the power fails at some step of that, or when it is done. */
export const powerCut = async (scheduler: Scheduler, replace: Replace): Promise<void> => {
  const world = { scheduler, disk: new SimDisk(scheduler) };
  const [writer, power] = actors(scheduler, "writer", "power") as [Actor, Actor];
  plant(world.disk, MANIFEST, OLD);
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

export const kilnReplace: Replace = async (writer, world, content) => {
  const write = (path: string): Promise<void> => writer.files(world.disk).append(path, toBytes(content));
  await publishBy(writer, world, { target: MANIFEST, ifExists: "replace", write });
};
