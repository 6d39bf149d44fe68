import { SimDisk } from "../../sim/disk.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { STAGING, toBytes, toText } from "../kiln/publish.ts";
import { createKilnRootfs, GOOD, ROOTFS, type World } from "../kiln/rootfs.ts";
import { Actor } from "../stage.ts";

interface Builds {
  readonly builder: Actor;
  /** Builds the rootfs and records it. */
  build(): Promise<void>;
  isRecorded(): boolean;
}

const scenario = async (scheduler: Scheduler, underTest: (world: World) => Builds): Promise<void> => {
  const world = { scheduler, disk: new SimDisk(scheduler) };
  const power = new Actor(scheduler, "power");
  const { builder, build, isRecorded } = underTest(world);
  let isDone = false;
  void build().then(() => (isDone = true));
  const afterSteps = scheduler.dice.below(24);
  for (let step = 0; step < afterSteps && !isDone; step += 1) await power.step("is there");
  await power.step("fails");
  builder.life.end();
  const wasRecorded = isRecorded();
  world.disk.losePower();
  const bytes = world.disk.peek(ROOTFS);
  const isWhole = bytes !== null && toText(bytes) === GOOD;
  power.says(`comes back: ${wasRecorded ? "recorded" : "not recorded"}, ${bytes === null ? "no file" : `${bytes.length} bytes`}`);
  must(
    !wasRecorded || isWhole,
    `the record says READY, and after the power failure its file ${bytes === null ? "is gone" : `has ${bytes.length} of ${GOOD.length} bytes`}`,
  );
};

const kilnBuilds = (world: World): Builds => {
  const { builder, ensure, recorded } = createKilnRootfs(world);
  return { builder, build: async () => void (await ensure()), isRecorded: () => recorded() !== null };
};

/** Beside, renamed, recorded. The database syncs what it commits; the file is left to the operating system. */
const naiveBuilds = ({ scheduler, disk }: World): Builds => {
  const builder = new Actor(scheduler, "builder");
  let isReady = false;
  return {
    builder,
    build: async () => {
      const files = builder.files(disk);
      const staged = `${STAGING}/aaaa`;
      await files.create(staged);
      await files.append(staged, toBytes(GOOD));
      await files.rename(staged, ROOTFS);
      await builder.step("commit the record");
      isReady = true;
      builder.says("has recorded it: READY");
    },
    isRecorded: () => isReady,
  };
};

export const exhibit: Exhibit = {
  id: "I4d",
  title: "The database has synced its record, and nobody the file that it is about",
  story: [
    "Stores of images keep records in a database, which syncs each commit, and layers as files, which nobody syncs, since there are many",
    'of them and it is slow. After a power failure the record is there and the files are empty: containers that do not start with "exec',
    'format error", programs of no bytes, and a pull that does nothing, since the record says that all is there.',
    "Order: the rootfs is written and renamed; the record is committed, and synced; the power fails; the file's pages were not written.",
    "Kiln writes the record when the file and its name are safe, never before; a file goes after its record has gone. What the power",
    "takes in between is garbage, which the sweep finds. And what is damaged all the same is noticed at its next use (I7).",
    "Code: `packages/daemon/src/pipeline/pipeline.ts` (ensureRootfs: build, then putRootfs), `packages/std/src/node/publish-file.ts`.",
  ],
  complaint: "the record says READY, and after the power failure its file",
  kiln: (scheduler) => scenario(scheduler, kilnBuilds),
  naive: (scheduler) => scenario(scheduler, naiveBuilds),
};
