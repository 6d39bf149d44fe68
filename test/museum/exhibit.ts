import type { Scheduler } from "../sim/scheduler.ts";

/**
 * A race that broke other systems: one scenario, judged by the same checks, with Kiln's own code in it and with the way
 * that looks right.
 */
export interface Exhibit {
  /** Of the invariant that it shows, as "I1"; a further exhibit of one invariant has a letter behind, as "I4b". */
  readonly id: string;
  /** A sentence. */
  readonly title: string;
  /** At most ten lines: who broke on it, in which order it happens, what Kiln does instead, where in the code. */
  readonly story: readonly string[];
  /** Under how many seeds it is played where nobody says how many: fewer where a whole daemon is in it. */
  readonly seeds?: number;
  /** A part of the message with which the naive one fails: what its users would see. */
  readonly complaint: string;
  /** Kiln's own code: passes under every seed. */
  readonly kiln: (scheduler: Scheduler) => Promise<void>;
  /** The way that looks right, in this tree only: fails under some seed, by the check that the invariant is about. */
  readonly naive: (scheduler: Scheduler) => Promise<void>;
}

/** The invariant does not hold. Anything else that a scenario throws is a fault of the scenario. */
export class Violation extends Error {
  override readonly name = "Violation";
}

/** What must hold; `complaint` says what does not. */
export function must(holds: boolean, complaint: string): asserts holds {
  if (!holds) throw new Violation(complaint);
}
