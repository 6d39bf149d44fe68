import { SimDisk } from "../../sim/disk.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { publishBy, toBytes, toText } from "../kiln/publish.ts";
import { type Actor, actors, outcomeOf } from "../stage.ts";

interface World {
  readonly scheduler: Scheduler;
  readonly disk: SimDisk;
}
/** The template under its name; made where it is missing. */
type Ensure = (caller: Actor, world: World) => Promise<void>;

const TEMPLATE = "/home/templates/python";
const STAGES = ["created ", "customised ", "warmed "];
const WHOLE = STAGES.join("");

const scenario = async (scheduler: Scheduler, ensure: Ensure): Promise<void> => {
  const world = { scheduler, disk: new SimDisk(scheduler) };
  const [one, two, killer] = actors(scheduler, "one", "two", "killer") as [Actor, Actor, Actor];
  const use = async (caller: Actor): Promise<void> => {
    await caller.step("start from the template");
    await ensure(caller, world);
    const found = world.disk.peek(TEMPLATE);
    const text = found === null ? "" : toText(found);
    const done = STAGES.filter((stage) => text.includes(stage)).length;
    must(text === WHOLE, `a VM starts from a template after ${done} of its ${STAGES.length} stages`);
  };
  const builderDies = async (): Promise<void> => {
    const afterSteps = scheduler.dice.below(10);
    for (let step = 0; step < afterSteps; step += 1) await killer.step("waits");
    await killer.step("kills one");
    one.life.end();
  };
  const failures: Error[] = [];
  const tryTo = async (caller: Actor): Promise<void> => {
    const outcome = await outcomeOf(use(caller));
    if (!outcome.ok) failures.push(outcome.error);
  };
  // of whoever has been killed nothing is heard any more
  void tryTo(one);
  await Promise.all([builderDies(), tryTo(two)]);
  const [failure] = failures;
  if (failure !== undefined) throw failure;
};

const kilnEnsure: Ensure = async (caller, world) => {
  await publishBy(caller, world, {
    ...{ target: TEMPLATE, ifExists: "keep" },
    write: async (path, files) => {
      for (const stage of STAGES) await files.append(path, toBytes(stage));
    },
  });
};

/** Created under its name; then customised, then warmed. */
const naiveEnsure: Ensure = async (caller, { disk }) => {
  const files = caller.files(disk);
  if (await files.exists(TEMPLATE)) return caller.says("finds it");
  const [created, ...more] = STAGES.map(toBytes);
  const outcome = await outcomeOf(files.create(TEMPLATE));
  if (!outcome.ok) return caller.says("finds it, since another was faster");
  await files.append(TEMPLATE, created ?? toBytes(""));
  for (const stage of more) await files.append(TEMPLATE, stage);
  await files.sync(TEMPLATE);
};

export const exhibit: Exhibit = {
  id: "I43",
  title: "A template has its name before its last stage",
  story: [
    "What is made in stages (create the disk, install what is wanted, warm the caches) is tempting to create under its final name and to",
    "improve there. Each stage may even be atomic; the whole is not. Golden images without their agent, templates without the users'",
    "packages and warm pools of guests that never ran the warm-up have been handed out so, and stayed: nothing ever looks again.",
    "Order: one creates the template and is killed before it is customised, or is only slow; two finds the name, and starts from it.",
    "In Kiln a name is given once, after the last stage; each stage works on what has no name. A builder that is killed leaves a staged",
    "file without an owner, which the next daemon sweeps, and a second caller builds its own.",
    "Code: `packages/std/src/node/publish-file.ts` (`write`), `packages/daemon/src/operations/customize-image.ts`.",
  ],
  complaint: "a VM starts from a template after",
  kiln: (scheduler) => scenario(scheduler, kilnEnsure),
  naive: (scheduler) => scenario(scheduler, naiveEnsure),
};
