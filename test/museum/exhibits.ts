import type { Exhibit } from "./exhibit.ts";
import { exhibit as i01 } from "./exhibits/i01-one-build.ts";

/** All of the museum, in the order of its page. */
const ALL: readonly Exhibit[] = [i01];

export const exhibits: ReadonlyMap<string, Exhibit> = new Map(ALL.map((exhibit) => [exhibit.id, exhibit]));
