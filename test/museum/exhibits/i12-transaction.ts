import { DatabaseSync } from "node:sqlite";
import { KilnError } from "@kiln/protocol";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { createKiln, digestOf, resolvedImage } from "../kiln/pipeline.ts";
import { type Actor, actors, outcomeOf } from "../stage.ts";

type Fetch = (reference: string) => Promise<void>;

interface Images {
  pull(reference: string): Promise<void>;
  has(reference: string): boolean;
}

const [BROKEN, SOUND] = ["deb:debian", "deb:busybox"];
const DIGEST = digestOf("a");
const { signal } = new AbortController();

const scenario = async (scheduler: Scheduler, underTest: (fetch: Fetch) => Images): Promise<void> => {
  const [ann, bob] = actors(scheduler, "ann", "bob") as [Actor, Actor];
  const images = underTest(async (reference) => {
    await scheduler.step(`registry: sends half of ${reference}`);
    await scheduler.step(`registry: sends the rest of ${reference}`);
    if (reference === BROKEN) throw new KilnError("REGISTRY_FAILED", "the registry hung up");
  });
  const pull = async (caller: Actor, reference: string) => {
    await caller.step(`pull ${reference}`);
    const outcome = await outcomeOf(images.pull(reference));
    caller.says(outcome.ok ? `is told that ${reference} is there` : `is told: ${outcome.error.message}`);
    return outcome;
  };
  const [ofAnn, ofBob] = await Promise.all([pull(ann, BROKEN), pull(bob, SOUND)]);
  must(!ofAnn.ok && ofAnn.error.message === "the registry hung up", "ann was not told what went wrong with her pull");
  must(ofBob.ok, `bob's own pull failed: ${ofBob.ok ? "" : ofBob.error.message}`);
  must(images.has(SOUND), "bob was told that busybox is there, and its record is gone: it was rolled back with ann's");
};

const kilnImages =
  (scheduler: Scheduler) =>
  (fetch: Fetch): Images => {
    const source = {
      fetch: async (reference: string) => {
        await fetch(reference);
        return { image: resolvedImage(reference, DIGEST), root: DIGEST };
      },
    };
    const { pipeline, leases, images } = createKiln(scheduler, { source });
    return {
      pull: async (reference) => {
        using lease = leases.begin();
        const wanted = { reference, pull: "missing", platform: null, plainHttp: false, credentials: {}, lease } as const;
        await pipeline.ensureImage(wanted, { signal });
      },
      has: (reference) => images.getImage(reference) !== null,
    };
  };

/** A transaction round the pull, so that no half of it is ever recorded; inside of another one it takes part in that. */
const naiveImages = (fetch: Fetch): Images => {
  const database = new DatabaseSync(":memory:");
  database.exec("CREATE TABLE images (reference TEXT PRIMARY KEY, state TEXT NOT NULL)");
  const transaction = async (work: () => Promise<void>): Promise<void> => {
    if (database.isTransaction) return work();
    database.exec("BEGIN IMMEDIATE");
    try {
      await work();
      database.exec("COMMIT");
    } catch (error) {
      database.exec("ROLLBACK");
      throw error;
    }
  };
  return {
    pull: (reference) =>
      transaction(async () => {
        database.prepare("INSERT INTO images VALUES (?, 'pulling')").run(reference);
        await fetch(reference);
        database.prepare("UPDATE images SET state = 'ready' WHERE reference = ?").run(reference);
      }),
    has: (reference) => database.prepare("SELECT 1 FROM images WHERE reference = ? AND state = 'ready'").get(reference) !== undefined,
  };
};

export const exhibit: Exhibit = {
  id: "I12",
  title: "A transaction is held over a pull, and another's rollback takes a finished one along",
  story: [
    "A pull in a transaction looks clean: a failure leaves no half record. But the one connection of a daemon has one transaction at a",
    'time, and whatever runs meanwhile is in it, too; mappers of objects to tables even make it a rule ("join the transaction that is',
    'open"). With a connection for each caller it is instead the write lock that everybody waits for, for the length of a pull.',
    "Order: ann's pull opens the transaction; bob's joins it, ends, and bob is told that busybox is there; ann's registry hangs up,",
    "her transaction is rolled back, and bob's record with it.",
    "Kiln waits with nothing in its hands: `write` takes a function that cannot await (its type refuses a promise), so a transaction is",
    "over in the turn in which it began, and a waiter is an entry in a list.",
    "Code: `packages/daemon/src/store/database.ts` (write), `packages/std/src/single-flight.ts`.",
  ],
  complaint: "its record is gone: it was rolled back with ann's",
  kiln: (scheduler) => scenario(scheduler, kilnImages(scheduler)),
  naive: (scheduler) => scenario(scheduler, naiveImages),
};
