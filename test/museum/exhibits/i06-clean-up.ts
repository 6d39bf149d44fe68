import { KilnError } from "@kiln/protocol";
import { SimDisk } from "../../sim/disk.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { publishBy, STAGING, toBytes, toText } from "../kiln/publish.ts";
import { type Actor, actors, outcomeOf } from "../stage.ts";

interface World {
  readonly scheduler: Scheduler;
  readonly disk: SimDisk;
}
/** Takes in what comes; throws where that is not what the key says. */
type Build = (builder: Actor, world: World, comes: string) => Promise<void>;

const TARGET = "/home/rootfs/aaaa.ext4";
const [SOUND, CUT_OFF] = ["the rootfs that this key stands for", "the rootfs that this"];

const check = (content: string): void => {
  if (content !== SOUND) throw new KilnError("CONTENT_DIGEST_MISMATCH", "the bytes that came are others");
};

const scenario = async (scheduler: Scheduler, build: Build): Promise<void> => {
  const world = { scheduler, disk: new SimDisk(scheduler) };
  const [one, two] = actors(scheduler, "one", "two") as [Actor, Actor];
  const begin = async (builder: Actor, comes: string) => {
    await builder.step("build the rootfs");
    const outcome = await outcomeOf(build(builder, world, comes));
    builder.says(outcome.ok ? "is done" : `fails: ${outcome.error.message}`);
    return outcome;
  };
  const [broken, sound] = await Promise.all([begin(one, CUT_OFF), begin(two, SOUND)]);
  must(!broken.ok, "what was cut off was taken for whole");
  must(sound.ok, `the sound build fails since the other one has cleaned up: ${sound.ok ? "" : sound.error.message}`);
  must(toText(world.disk.peek(TARGET) ?? toBytes("")) === SOUND, "the file is not there, or not whole");
  must(world.disk.list(STAGING).length === 0, "something is left in staging");
};

const kilnBuild: Build = async (builder, world, comes) => {
  const write = (path: string): Promise<void> => builder.files(world.disk).append(path, toBytes(comes));
  await publishBy(builder, world, { target: TARGET, ifExists: "keep", write, verify: async () => check(comes) });
};

/** A file of its own for each builder; whoever fails leaves nothing behind, also of earlier tries. */
const naiveBuild: Build = async (builder, { disk }, comes) => {
  const files = builder.files(disk);
  const staged = `${STAGING}/aaaa.${builder.name}`;
  try {
    await files.create(staged);
    await files.append(staged, toBytes(comes));
    check(comes);
    await files.sync(staged);
    await files.rename(staged, TARGET);
    await files.syncDirectory("/home/rootfs");
  } catch (error) {
    for (const path of await files.list(STAGING)) {
      if (path.startsWith(`${STAGING}/aaaa.`) && (await files.exists(path))) await files.remove(path);
    }
    throw error;
  }
};

export const exhibit: Exhibit = {
  id: "I6",
  title: "The clean-up of a failed build deletes what another build is writing",
  story: [
    'A failed build should leave nothing, and the easy way to say "nothing" is a pattern: all temporary files of this key, or the whole',
    "temporary directory of it. Where two builds of one key can run, in two processes or after a retry, the pattern fits the other's",
    'file, too. The sound build then fails at its rename, with a "no such file" that nobody understands, for the fault of another.',
    "Order: one and two build; one's download is cut off; one removes `aaaa.*`; two renames its file, which has gone.",
    "In Kiln the name of a staged file is unique for ever, whoever made it removes exactly that one, and what has no owner is swept only",
    "by the daemon that holds the home's lock, before it begins anything: then no live owner can exist.",
    "Code: `packages/std/src/node/staging.ts`, `packages/daemon/src/store/home.ts` (sweepStaging).",
  ],
  complaint: "the sound build fails since the other one has cleaned up: ENOENT",
  kiln: (scheduler) => scenario(scheduler, kilnBuild),
  naive: (scheduler) => scenario(scheduler, naiveBuild),
};
