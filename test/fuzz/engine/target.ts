import type { Dice } from "./dice.ts";

/** What became of an input; anything else that is thrown is a finding. */
export type Outcome = "accepted" | "refused";

/** One parser under fuzz. */
export interface FuzzTarget {
  /** What is fuzzed, for the table. */
  readonly about: string;
  /** What has to hold for every input, besides: it ends with success or the format's own error, in bounded time and memory. */
  readonly holds: string;
  /** Longer inputs are cut. */
  readonly maxBytes: number;
  /** Throws where something does not hold. */
  run(input: Buffer, attempt: Attempt): Outcome | Promise<Outcome>;
  mutate(input: Buffer, dice: Dice, others: Others): Buffer;
  /** Ends what `run` has started, such as the process of an oracle. */
  close?(): void;
}

export interface Attempt {
  /** Whether oracles that cost milliseconds are asked too: of a sample, and always where an input is replayed. */
  readonly thorough: boolean;
  /** A directory of the run's own. */
  readonly scratch: string;
}

/** Another input of the corpus. */
export type Others = () => Buffer;

/** Something that had to hold does not. */
export class Broken extends Error {
  override readonly name = "Broken";
}

export const mustHold: (condition: boolean, what: () => string) => asserts condition = (condition, what) => {
  if (!condition) throw new Broken(what());
};
