import type { Digest } from "@kiln/protocol";
import { Deferred, Semaphore } from "@kiln/std";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { createKiln, digestOf, resolvedImage } from "../kiln/pipeline.ts";
import { type Actor, actors, waitForEver } from "../stage.ts";

type Fetch = (reference: string) => Promise<Digest>;
type Pull = (reference: string, caller: Actor) => Promise<Digest>;

const [SLOW, QUICK] = ["deb:debian", "deb:busybox"];
const { signal } = new AbortController();

const scenario = async (scheduler: Scheduler, underTest: (fetch: Fetch) => Pull): Promise<void> => {
  const [ann, bob] = actors(scheduler, "ann", "bob") as [Actor, Actor];
  const registryAnswers = new Deferred<void>();
  const sent: string[] = [];
  const pull = underTest(async (reference) => {
    await scheduler.step(`registry: sends ${reference}`);
    if (reference === SLOW) await registryAnswers.promise;
    sent.push(reference);
    return digestOf(reference === SLOW ? "a" : "b");
  });
  const ask = async (caller: Actor, reference: string): Promise<void> => {
    await caller.step(`pull ${reference}`);
    await pull(reference, caller);
    caller.says(`has ${reference}`);
  };
  let isSmallOneThere = false;
  const slow = ask(ann, SLOW);
  const quick = ask(bob, QUICK).then(() => (isSmallOneThere = true));
  await waitForEver(scheduler);
  must(isSmallOneThere, "bob's pull of busybox waits for ann's pull of debian, with which it shares nothing");
  registryAnswers.resolve();
  await Promise.all([slow, quick]);
  must(sent.length === 2, `the registry has sent ${sent.join(" and ")}`);
};

const kilnPull =
  (scheduler: Scheduler) =>
  (fetch: Fetch): Pull => {
    const { pipeline, leases } = createKiln(scheduler, {
      source: {
        fetch: async (reference) => {
          const digest = await fetch(reference);
          return { image: resolvedImage(reference, digest), root: digest };
        },
      },
    });
    return async (reference) => {
      using lease = leases.begin();
      const wanted = { reference, pull: "missing", platform: null, plainHttp: false, credentials: {}, lease } as const;
      return (await pipeline.ensureImage(wanted, { signal })).root;
    };
  };

/** "Pulls are not safe to run at once": one lock round all of it. */
const naivePull = (fetch: Fetch): Pull => {
  const pulling = new Semaphore(1);
  return async (reference, caller) => {
    using _lock = await pulling.acquire({ signal });
    caller.says(`holds the lock and pulls ${reference}`);
    return await fetch(reference);
  };
};

export const exhibit: Exhibit = {
  id: "I2",
  title: "One lock round every pull: a slow registry stops the whole host",
  story: [
    "The cure for two builds of one image is often one lock round all of them. Daemons of containers held the lock of their image store",
    "while they read from the network; one registry that sent nothing and did not hang up, and nobody could start anything, not even",
    "list what is there.",
    "Order: ann pulls debian from a registry that falls silent; bob, who wants busybox from another one, waits for ann's lock.",
    "Kiln has no lock over a pull: work is joined by its key, different keys know nothing of each other, and what all share (names,",
    "capacity) is taken in transactions of a millisecond, within which nothing can be awaited.",
    "Code: `packages/daemon/src/pipeline/pipeline.ts` (ensureImage), `operations/joined-work.ts`, `store/database.ts` (write).",
  ],
  complaint: "waits for ann's pull of debian",
  kiln: (scheduler) => scenario(scheduler, kilnPull(scheduler)),
  naive: (scheduler) => scenario(scheduler, naivePull),
};
