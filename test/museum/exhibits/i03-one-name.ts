import { type Digest, KilnError } from "@kiln/protocol";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { createKiln, digestOf, imageRecord } from "../kiln/pipeline.ts";
import { type Actor, actors, outcomeOf } from "../stage.ts";

interface Names {
  /** Names the content, unless the name leads to other content. */
  publish(content: Digest, publisher: Actor): Promise<void>;
  read(): Digest | null;
}

const NAME = "mine:1";
const [ONE, OTHER] = [digestOf("a"), digestOf("b")];

const scenario = async (scheduler: Scheduler, names: Names): Promise<void> => {
  const [ann, bob, cem] = actors(scheduler, "ann", "bob", "cem") as [Actor, Actor, Actor];
  const publish = async (publisher: Actor, content: Digest) => {
    await publisher.step(`publish as ${NAME}`);
    const outcome = await outcomeOf(names.publish(content, publisher));
    publisher.says(outcome.ok ? `is told that ${NAME} is its own` : `is told: ${outcome.error.message.slice(0, 40)}…`);
    return { publisher, content, outcome };
  };
  // cem has the same content as ann
  const all = await Promise.all([publish(ann, ONE), publish(bob, OTHER), publish(cem, ONE)]);
  const winners = new Set(all.filter(({ outcome }) => outcome.ok).map(({ content }) => content));
  must(winners.size === 1, `${winners.size} contents were published as ${NAME}, each by somebody who was told that it worked`);
  must(winners.has(names.read() ?? digestOf("0")), `${NAME} leads to what no winner published`);
  for (const { publisher, content, outcome } of all) {
    must(outcome.ok || !winners.has(content), `${publisher.name} had the winner's own content and was refused`);
    must(outcome.ok || (outcome.error instanceof KilnError && outcome.error.code === "IMAGE_NAME_CONFLICT"), "a loser got no conflict");
  }
};

const kilnNames = (scheduler: Scheduler): Names => {
  const { pipeline, images } = createKiln(scheduler, {});
  return {
    publish: (content) => pipeline.publishImage(imageRecord(NAME, content), { expect: null, replace: false }),
    read: () => images.getImage(NAME)?.root ?? null,
  };
};

/** Is the name free? Then take it. */
const naiveNames = (): Names => {
  const records = new Map<string, Digest>();
  return {
    publish: async (content, publisher) => {
      const known = records.get(NAME);
      if (known !== undefined && known !== content) throw new KilnError("IMAGE_NAME_CONFLICT", `${NAME} is ${known}`);
      publisher.says(known === undefined ? "sees that the name is free" : "sees its own content");
      await publisher.step("write the record");
      records.set(NAME, content);
    },
    read: () => records.get(NAME) ?? null,
  };
};

export const exhibit: Exhibit = {
  id: "I3",
  title: "Two publish under one name, and both are told that it worked",
  story: [
    "Stores of images and templates ask whether a name is free, and then write the record. Two promotions to one tag then both succeed:",
    "the second overwrites the first without a word, and whoever made the first deploys the other's content under a name that it",
    "believes to be its own.",
    "Order: ann sees that mine:1 is free; bob sees the same; ann writes, and is told so; bob writes over it, and is told so.",
    "Kiln asks and names in one transaction, by one rule for pull, tag, register, promote, customize and import: a free name is taken,",
    "the same content is no change, and other content gives way only if the caller said so and saw what is there now. All others get",
    "IMAGE_NAME_CONFLICT, and the winner's record stays as it is.",
    "Code: `packages/daemon/src/images/naming.ts` (requireName), `store/artifact-store.ts` (putImage).",
  ],
  complaint: "contents were published as mine:1",
  kiln: (scheduler) => scenario(scheduler, kilnNames(scheduler)),
  naive: (scheduler) => scenario(scheduler, naiveNames()),
};
