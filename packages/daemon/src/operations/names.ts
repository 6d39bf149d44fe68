import type { RandomSource } from "@kiln/std";

const MOODS =
  "amber bold brisk calm clear crisp eager fair fleet glad keen kind lively lucid mellow noble plain quick quiet rapid sharp still sunny swift tidy vivid warm wise".split(
    " ",
  );
const THINGS =
  "anvil basalt brick cinder clay cobalt copper ember flint forge garnet glaze granite hearth ingot jasper kelp lantern marble mica onyx opal pebble quartz slate spark tile vase".split(
    " ",
  );
const SUFFIX_BYTES = 2;

/** A name for a VM that got none, such as `calm-slate-3f1a`. Unique enough: the reservation decides. */
export const proposeName = (random: RandomSource): string => {
  const [mood = 0, thing = 0, ...suffix] = random.bytes(2 + SUFFIX_BYTES);
  const hex = suffix.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${MOODS[mood % MOODS.length]}-${THINGS[thing % THINGS.length]}-${hex}`;
};
