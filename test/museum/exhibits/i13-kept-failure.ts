import { KilnError } from "@kiln/protocol";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { createKiln, digestOf, resolvedImage } from "../kiln/pipeline.ts";
import { type Actor, actors, outcomeOf } from "../stage.ts";

type Fetch = () => Promise<void>;
type Pull = () => Promise<void>;

const DIGEST = digestOf("a");
const CAUSE = "the registry hung up";
const { signal } = new AbortController();

const scenario = async (scheduler: Scheduler, underTest: (fetch: Fetch) => Pull): Promise<void> => {
  let fetches = 0;
  const pull = underTest(async () => {
    fetches += 1;
    const isFirst = fetches === 1;
    await scheduler.step("registry: sends half");
    if (isFirst) throw new KilnError("REGISTRY_FAILED", CAUSE);
    await scheduler.step("registry: sends the rest");
  });
  const askTwice = async (caller: Actor): Promise<void> => {
    await caller.step("pull debian");
    const first = await outcomeOf(pull());
    if (first.ok) return;
    caller.says(`is told: ${first.error.message}`);
    must(first.error.message === CAUSE, `${caller.name} was not told the cause, but: ${first.error.message}`);
    await caller.step("try again");
    const before = fetches;
    const second = await outcomeOf(pull());
    must(
      second.ok || fetches > before,
      `${caller.name} asks again, and is told once more of the failure of before: nobody has asked the registry`,
    );
  };
  await Promise.all(actors(scheduler, "ann", "bob").map(askTwice));
};

const kilnPull =
  (scheduler: Scheduler) =>
  (fetch: Fetch): Pull => {
    const source = {
      fetch: async (reference: string) => {
        await fetch();
        return { image: resolvedImage(reference, DIGEST), root: DIGEST };
      },
    };
    const { pipeline, leases } = createKiln(scheduler, { source });
    return async () => {
      using lease = leases.begin();
      const wanted = { reference: "deb:debian", pull: "missing", platform: null, plainHttp: false, credentials: {}, lease } as const;
      await pipeline.ensureImage(wanted, { signal });
    };
  };

/** The promise is kept while the pull runs; its record of what went wrong is written before it is forgotten. */
const naivePull =
  (scheduler: Scheduler) =>
  (fetch: Fetch): Pull => {
    const running = new Map<string, Promise<void>>();
    const forget = async (): Promise<void> => {
      await scheduler.step("daemon: write the event");
      running.delete("debian");
    };
    return () => {
      const known = running.get("debian");
      if (known !== undefined) return known;
      const started = fetch();
      running.set("debian", started);
      void started.then(forget, forget);
      return started;
    };
  };

export const exhibit: Exhibit = {
  id: "I13",
  title: "A failure is kept, and who tries again is told of it without a try",
  story: [
    "A map of promises keeps failures as it keeps results. Some never delete them, so that one hiccup of a registry lasts until the",
    "daemon is restarted; others delete them a little too late, after a log line or an event has been written, and the retry that comes",
    "at once, as retries do, gets the old failure.",
    "Order: ann's pull fails; ann is told, and asks again in the same moment; the entry is still there, and answers for the registry.",
    "In Kiln the entry goes in the turn in which those who waited are answered, before them. They get the real cause; whoever comes",
    "next begins afresh.",
    "Code: `packages/std/src/single-flight.ts` (end), `packages/daemon/src/operations/joined-work.ts`.",
  ],
  complaint: "is told once more of the failure of before",
  kiln: (scheduler) => scenario(scheduler, kilnPull(scheduler)),
  naive: (scheduler) => scenario(scheduler, naivePull(scheduler)),
};
