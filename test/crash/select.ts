/** Which of the places that an operation meets become cells. */
import type { Hit } from "./cells.ts";

/** What lies between two of these places changes neither records nor files: a crash anywhere in it leaves the same behind. */
const CHANGES = /^publish\.|\.(after|done|undone|fetched|published|booted|connected|stopped|packed|stored)$/;

/**
 * Every failpoint once, at the hit that finds the world as no other has; and every state of the world once, at the first
 * hit in it.
 */
export const selectHits = (hits: readonly Hit[]): readonly Hit[] => {
  const states = statesOf(hits);
  const covered = new Set<number>();
  const chosen = new Set<Hit>();
  const choose = (index: number): void => {
    const [hit, state] = [hits[index], states[index]];
    if (hit === undefined || state === undefined) return;
    chosen.add(hit);
    covered.add(state);
  };
  for (const point of new Set(hits.map((hit) => hit.point))) {
    const indexes = hits.flatMap((hit, index) => (hit.point === point ? [index] : []));
    choose(indexes.find((index) => !covered.has(states[index] ?? 0)) ?? indexes[0] ?? 0);
  }
  for (const [index, state] of states.entries()) if (!covered.has(state)) choose(index);
  return hits.filter((hit) => chosen.has(hit));
};

/** Counted from 0; a hit of one of CHANGES is the first in a new one. */
const statesOf = (hits: readonly Hit[]): readonly number[] => {
  let state = 0;
  return hits.map(({ point }) => (CHANGES.test(point) ? (state += 1) : state));
};
