import { abortable, SingleFlight } from "@kiln/std";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { actors, outcomeOf } from "../stage.ts";

type Build = (signal: AbortSignal) => Promise<string>;
type Join = (build: Build, options: { readonly signal: AbortSignal }) => Promise<string>;

const scenario = async (scheduler: Scheduler, join: Join): Promise<void> => {
  const staging = new Set<string>();
  let builds = 0;
  const build: Build = async (signal) => {
    builds += 1;
    const path = `staging/${builds}`;
    staging.add(path);
    try {
      for (const part of ["fetch", "unpack", "write"]) {
        await scheduler.step(`build: ${part}`);
        signal.throwIfAborted();
      }
      return "rootfs";
    } finally {
      await scheduler.step(`build: remove ${path}`);
      staging.delete(path);
    }
  };
  await Promise.all(
    actors(scheduler, "ann", "bob").map(async (caller) => {
      await caller.step("run the image");
      const leave = new AbortController();
      const call = outcomeOf(join(build, { signal: leave.signal }));
      await caller.step("press ctrl-c");
      leave.abort(new Error("ctrl-c"));
      await call;
      caller.says("has its prompt again");
    }),
  );
  must(staging.size === 0, `both callers have gone, and the build is still at ${[...staging].join(" and ")}`);
};

const kilnJoin = (): Join => {
  const flights = new SingleFlight<string, string>();
  return (build, options) => flights.run("debian", ({ signal }) => build(signal), options);
};

/** It counts its callers and stops the work when the last has left; whoever leaves is answered at once. */
const naiveJoin = (): Join => {
  const running = new Map<string, { work: Promise<string>; callers: number; stop: AbortController }>();
  return async (build, { signal }) => {
    const known = running.get("debian");
    const stop = known?.stop ?? new AbortController();
    const flight = known ?? { work: build(stop.signal).finally(() => running.delete("debian")), callers: 0, stop };
    running.set("debian", flight);
    flight.callers += 1;
    try {
      return await abortable(flight.work, signal);
    } finally {
      flight.callers -= 1;
      if (flight.callers === 0) stop.abort(signal.reason);
    }
  };
};

export const exhibit: Exhibit = {
  id: "I11b",
  title: "The last caller is answered while its build still writes",
  story: [
    "A cancelled call that returns at once feels fast. What it started is still at work: the prompt is back, the user removes the image",
    "or starts again, and the old build writes into what the new one reads. Test suites see it as files that appear after the clean-up.",
    "Order: ann and bob wait for one build; both press ctrl-c; the abort is sent, both are answered, and only then the build notices,",
    "step by step.",
    "In Kiln cancelled means stopped: whoever leaves while others wait is answered at once, and the last to leave is answered when the",
    "work has ended and its staging file is gone. Whoever comes in between waits for that end and begins afresh.",
    "Code: `packages/std/src/single-flight.ts` (leave), `packages/std/src/node/publish-file.ts`.",
  ],
  complaint: "both callers have gone, and the build is still at",
  kiln: (scheduler) => scenario(scheduler, kilnJoin()),
  naive: (scheduler) => scenario(scheduler, naiveJoin()),
};
