import { SingleFlight } from "@kiln/std";
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
  const pressCtrlC = async (): Promise<void> => {
    await ann.step("press ctrl-c");
    leave.abort(new Error("ann has pressed ctrl-c"));
  };
  const ask = async (caller: Actor, signal: AbortSignal) => {
    await caller.step("run the image");
    return outcomeOf(join(build, { signal }));
  };
  const [, , ofBob] = await Promise.all([pressCtrlC(), ask(ann, leave.signal), ask(bob, new AbortController().signal)]);
  must(ofBob.ok, `bob, who has cancelled nothing, is told: ${ofBob.ok ? "" : ofBob.error.message}`);
};

const kilnJoin = (): Join => {
  const flights = new SingleFlight<string, string>();
  return (build, options) => flights.run("debian", ({ signal }) => build(signal), options);
};

/** All who come while it runs get the same promise. */
const naiveJoin = (): Join => {
  const running = new Map<string, Promise<string>>();
  return (build, { signal }) => {
    const known = running.get("debian");
    if (known !== undefined) return known;
    const started = build(signal).finally(() => running.delete("debian"));
    running.set("debian", started);
    return started;
  };
};

export const exhibit: Exhibit = {
  id: "I11",
  title: "The first caller gives up, and takes all who joined it down",
  story: [
    "The usual way to share work is a map of promises: the first caller starts it, with its own signal or request context, and the",
    "others await the same promise. In Go it is singleflight with the context of whoever came first; the issue has been filed against",
    "one project after the other.",
    "Order: ann starts the build; bob joins; ann presses ctrl-c; the build stops, and bob, who has cancelled nothing, is told that it",
    "was cancelled.",
    "Kiln's joined work has a signal of its own, which aborts when the last caller has left. Each caller leaves by its own signal.",
    "Code: `packages/std/src/single-flight.ts`, after BuildKit's flightcontrol.",
  ],
  complaint: "bob, who has cancelled nothing, is told",
  kiln: (scheduler) => scenario(scheduler, kilnJoin()),
  naive: (scheduler) => scenario(scheduler, naiveJoin()),
};
