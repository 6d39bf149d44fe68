import { SimDisk } from "../../sim/disk.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { publishBy, STAGING, toBytes, toText } from "../kiln/publish.ts";
import { type Actor, actors, outcomeOf } from "../stage.ts";

interface World {
  readonly scheduler: Scheduler;
  readonly disk: SimDisk;
}
/** Makes the file of a key, whose name says what is in it. */
type Build = (builder: Actor, world: World) => Promise<void>;

const TARGET = "/home/rootfs/aaaa.ext4";
const CONTENT = "the rootfs that this key stands for";

/** Two processes: no lock of one is a lock of the other. */
const scenario = async (scheduler: Scheduler, build: Build): Promise<void> => {
  const world = { scheduler, disk: new SimDisk(scheduler) };
  await Promise.all(
    actors(scheduler, "one", "two").map(async (builder) => {
      await builder.step("build the rootfs");
      const outcome = await outcomeOf(build(builder, world));
      must(outcome.ok, `builder ${builder.name} has failed, though what it wants is there: ${outcome.ok ? "" : outcome.error.message}`);
      const found = world.disk.peek(TARGET);
      must(found !== null && toText(found) === CONTENT, `builder ${builder.name} has returned, and the file is not whole`);
    }),
  );
};

const kilnBuild: Build = async (builder, world) => {
  const write = (path: string): Promise<void> => builder.files(world.disk).append(path, toBytes(CONTENT));
  await publishBy(builder, world, { target: TARGET, ifExists: "keep", write });
};

/** Not there? Then write a file beside, and give it its name where nobody else has it. */
const naiveBuild: Build = async (builder, { disk }) => {
  const files = builder.files(disk);
  if (await files.exists(TARGET)) return;
  builder.says("sees that it is not there");
  const staged = `${STAGING}/${builder.name}`;
  await files.create(staged);
  await files.append(staged, toBytes(CONTENT));
  await files.sync(staged);
  await files.link(staged, TARGET);
  await files.syncDirectory("/home/rootfs");
  await files.remove(staged);
};

export const exhibit: Exhibit = {
  id: "I1b",
  title: 'The loser of two builds fails with "already exists"',
  story: [
    "Content that is named by its digest can be built twice without harm, as long as the second does not mind. Snapshotters, template",
    'stores and caches of registries have told users "already exists" for the very thing they had asked for, and scripts that were',
    "started twice went red one time in fifty.",
    "Order: two processes see that the rootfs is not there; both build it; the first gives it its name; the second's link(2) fails with",
    "EEXIST, and so does its caller.",
    "In Kiln a peer that finished first is success: under names that say their content, who finds the name taken keeps the peer's file,",
    "which is whole because it has its name, and returns that one's fingerprint. Only a person's name can conflict (I3).",
    'Code: `packages/std/src/node/publish-file.ts` (`ifExists: "keep"`).',
  ],
  complaint: "has failed, though what it wants is there: EEXIST",
  kiln: (scheduler) => scenario(scheduler, kilnBuild),
  naive: (scheduler) => scenario(scheduler, naiveBuild),
};
