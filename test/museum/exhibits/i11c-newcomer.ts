import { abortable, SingleFlight } from "@kiln/std";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { type Actor, actors, outcomeOf } from "../stage.ts";

type Build = (signal: AbortSignal) => Promise<string>;
type Join = (build: Build, options: { readonly signal: AbortSignal }) => Promise<string>;

const scenario = async (scheduler: Scheduler, join: Join): Promise<void> => {
  const [ann, bob] = actors(scheduler, "ann", "bob") as [Actor, Actor];
  const build: Build = async (signal) => {
    for (const part of ["fetch", "unpack", "write"]) {
      await scheduler.step(`build: ${part}`);
      signal.throwIfAborted();
    }
    return "rootfs";
  };
  const leave = new AbortController();
  const annGivesUp = async (): Promise<void> => {
    await ann.step("run the image");
    const call = outcomeOf(join(build, { signal: leave.signal }));
    await ann.step("press ctrl-c");
    leave.abort(new Error("ann has pressed ctrl-c"));
    await call;
  };
  const bobComes = async () => {
    await bob.step("run the image");
    bob.says(leave.signal.aborted ? "comes after ann has left" : "comes while ann waits");
    return outcomeOf(join(build, { signal: new AbortController().signal }));
  };
  const [, ofBob] = await Promise.all([annGivesUp(), bobComes()]);
  must(ofBob.ok, `bob, a newcomer, is told: ${ofBob.ok ? "" : ofBob.error.message}`);
};

const kilnJoin = (): Join => {
  const flights = new SingleFlight<string, string>();
  return (build, options) => flights.run("debian", ({ signal }) => build(signal), options);
};

/** It counts its callers, stops the work when the last has left, and waits until it has stopped. */
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
      if (flight.callers === 0) {
        stop.abort(signal.reason);
        await outcomeOf(flight.work);
      }
    }
  };
};

export const exhibit: Exhibit = {
  id: "I11c",
  title: "Whoever comes while a build is being cancelled joins the cancellation",
  story: [
    "Work that counts its callers and stops with the last of them has one more moment: it was told to stop and has not stopped yet. The",
    "key still leads to it, so a newcomer joins a build that is already dead. In systems of continuous integration it is the job that",
    'fails with "context canceled" because another one, of somebody else, was cancelled a second before.',
    "Order: ann, who is alone, presses ctrl-c; the build is told; bob asks for the same image and joins; the build notices and ends;",
    "bob gets ann's reason.",
    "In Kiln a newcomer sees that the flight was cancelled, waits for its end without joining, and begins afresh.",
    "Code: `packages/std/src/single-flight.ts` (run).",
  ],
  complaint: "bob, a newcomer, is told: ann has pressed ctrl-c",
  kiln: (scheduler) => scenario(scheduler, kilnJoin()),
  naive: (scheduler) => scenario(scheduler, naiveJoin()),
};
