import { SimDisk } from "../../sim/disk.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { plant, publishBy, toBytes, toText } from "../kiln/publish.ts";
import { type Actor, actors } from "../stage.ts";

interface World {
  readonly scheduler: Scheduler;
  readonly disk: SimDisk;
}
type Replace = (writer: Actor, world: World, content: string) => Promise<void>;

const MANIFEST = "/home/images/manifest.json";
const version = (digit: string): string => JSON.stringify({ digest: digit.repeat(40) });
const [OLD, NEW] = [version("0"), version("1")];

const scenario = async (scheduler: Scheduler, replace: Replace): Promise<void> => {
  const world = { scheduler, disk: new SimDisk(scheduler) };
  const [writer, reader] = actors(scheduler, "writer", "reader") as [Actor, Actor];
  plant(world.disk, MANIFEST, OLD);
  const read = async (): Promise<void> => {
    for (let look = 0; look < 3; look += 1) {
      const seen = toText(await reader.files(world.disk).read(MANIFEST));
      reader.says(`reads ${seen.length} of ${NEW.length} bytes`);
      must(seen === OLD || seen === NEW, `a reader got ${seen.length} bytes of the manifest: Unexpected end of JSON input`);
    }
  };
  await Promise.all([replace(writer, world, NEW), read()]);
  must(toText(await reader.files(world.disk).read(MANIFEST)) === NEW, "the new manifest is not there");
};

const kilnReplace: Replace = async (writer, world, content) => {
  const write = (path: string): Promise<void> => writer.files(world.disk).append(path, toBytes(content));
  await publishBy(writer, world, { target: MANIFEST, ifExists: "replace", write });
};

/** What `writeFile` does: open with O_TRUNC, then write. */
const naiveReplace: Replace = async (writer, { disk }, content) => {
  const files = writer.files(disk);
  await files.truncate(MANIFEST);
  await files.append(MANIFEST, toBytes(content));
  await files.sync(MANIFEST);
};

export const exhibit: Exhibit = {
  id: "I4",
  title: "A manifest is read while it is written, and half of it is no JSON",
  story: [
    "`writeFile(path, JSON.stringify(record))` is the shortest way to store a record, and it truncates the file first. Whoever reads in",
    'between gets nothing or a half; the message is "Unexpected end of JSON input", once in thousands of runs, and never again when',
    "somebody looks. Indexes of local images and states of VMs have been lost so.",
    "Order: the writer truncates the manifest; the reader reads it; the writer writes.",
    "Kiln writes every shared file beside, syncs it, and renames it to its name: rename(2) replaces the one by the other at once, so a",
    "reader sees the old whole or the new whole. Its records are in SQLite, by the same idea.",
    "Code: `packages/std/src/node/publish-file.ts`.",
  ],
  complaint: "of the manifest: Unexpected end of JSON input",
  kiln: (scheduler) => scenario(scheduler, kilnReplace),
  naive: (scheduler) => scenario(scheduler, naiveReplace),
};
