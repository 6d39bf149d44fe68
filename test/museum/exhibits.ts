import type { Exhibit } from "./exhibit.ts";

/** All of the museum, in the order of its page. */
const ALL: readonly Exhibit[] = [];

export const exhibits: ReadonlyMap<string, Exhibit> = new Map(ALL.map((exhibit) => [exhibit.id, exhibit]));
