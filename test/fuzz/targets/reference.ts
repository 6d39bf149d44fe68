import { dockerName, familiarName, parseReference } from "../../../packages/formats/src/oci/reference.ts";
import { OciError } from "../../../packages/formats/src/oci/errors.ts";
import { mutateBytes, replace } from "../engine/bytes.ts";
import type { Dice } from "../engine/dice.ts";
import { mustHold, type FuzzTarget, type Others, type Outcome } from "../engine/target.ts";

const run = (input: Buffer): Outcome => {
  try {
    const reference = parseReference(input.toString("utf8"));
    if (reference.transport !== "docker") return "accepted";
    const name = dockerName(reference);
    const same = (text: string): boolean => JSON.stringify(parseReference(text)) === JSON.stringify(reference);
    mustHold(same(name), () => `${name} means something else`);
    mustHold(same(familiarName(name)), () => `${familiarName(name)} means something else than ${name}`);
    mustHold(!/(^|\/)\.{1,2}(\/|$)/.test(name), () => `${name} climbs`);
  } catch (error) {
    if (!(error instanceof OciError)) throw error;
    return "refused";
  }
  return "accepted";
};

const PIECES = [
  ...([
    "docker.io/",
    "index.docker.io/",
    "localhost/",
    "localhost:5000/",
    "[::1]:5000/",
    "library/",
    "host.example/",
    "docker://",
  ] as const),
  ...([
    "oci:",
    "oci-archive:",
    "docker-archive:",
    "deb:",
    ",",
    "+essential",
    "=1.0",
    ":latest",
    ":v1.0",
    "/",
    ".",
    "..",
    "__",
    "-",
    "@",
  ] as const),
  ...([`@sha256:${"0".repeat(64)}`, "@sha512:00", "a", "A", "ü", "\0", " ", "\n", "%2e", "//"] as const),
] as const;

const mutate = (input: Buffer, dice: Dice, others: Others): Buffer => {
  if (dice.once(3)) return mutateBytes(input, dice, others);
  const at = dice.below(input.length + 1);
  return replace(input, { at, cut: dice.once(2) ? 0 : dice.below(8) }, Buffer.from(dice.pick(PIECES)));
};

export const REFERENCE: FuzzTarget = {
  about: "names of images, of every transport",
  holds: "a name written out, and its short form, mean the same; none climbs",
  maxBytes: 8 << 10,
  run,
  mutate,
};
