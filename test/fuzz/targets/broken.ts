/** Targets that misbehave, for the tests of the engine. */
import { mutateBytes } from "../engine/bytes.ts";
import type { FuzzTarget } from "../engine/target.ts";

const broken = (run: () => void): FuzzTarget => ({
  ...{ about: "nothing", holds: "nothing", maxBytes: 100, mutate: mutateBytes },
  run: () => {
    run();
    return "accepted";
  },
});

const held: Buffer[] = [];

export const BROKEN: Readonly<Record<string, FuzzTarget>> = {
  "broken-throws": broken(() => {
    throw new RangeError("a defect");
  }),
  "broken-fills": broken(() => {
    for (;;) held.push(Buffer.alloc(1 << 20, held.length));
  }),
  "broken-crashes": broken(() => process.abort()),
  "broken-spins": broken(() => {
    for (;;) held.length = 0;
  }),
};
