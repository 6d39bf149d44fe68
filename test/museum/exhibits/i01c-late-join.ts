import type { Digest, OperationId } from "@kiln/protocol";
import { SingleFlight } from "@kiln/std";
import type { ContentInfo } from "../../../packages/daemon/src/images/ports.ts";
import { shareBlob } from "../../../packages/daemon/src/pipeline/share-blob.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { createKiln, digestOf } from "../kiln/pipeline.ts";
import { type Actor, actors } from "../stage.ts";

interface Blob {
  /** A stat: the answer comes some time after the look. */
  find(caller: Actor): Promise<ContentInfo | null>;
  fetch(): Promise<ContentInfo>;
}
type Ensure = (caller: Actor) => Promise<ContentInfo>;

const DIGEST: Digest = digestOf("a");
const { signal } = new AbortController();

const scenario = async (scheduler: Scheduler, underTest: (blob: Blob) => Ensure): Promise<void> => {
  let stored: ContentInfo | null = null;
  let fetches = 0;
  const ensure = underTest({
    find: async (caller) => {
      const seen = stored;
      caller.says(seen === null ? "looks, and it is not there" : "looks, and it is there");
      await caller.step("hear what the look has found");
      return seen;
    },
    fetch: async () => {
      fetches += 1;
      await scheduler.step(`registry: sends the layer, for the ${fetches}. time`);
      stored = { digest: DIGEST, size: 1 };
      return stored;
    },
  });
  await Promise.all(
    actors(scheduler, "ann", "bob").map(async (caller) => {
      await caller.step("pull an image with this layer");
      await ensure(caller);
      caller.says("has it");
    }),
  );
  must(fetches === 1, `one layer for two images was fetched ${fetches} times, though whoever comes joins`);
};

const kilnEnsure =
  (scheduler: Scheduler) =>
  (blob: Blob): Ensure => {
    const { work } = createKiln(scheduler, {});
    const operation = "op_museum" as OperationId;
    return (caller) => {
      const how = { digest: DIGEST, subject: "debian", find: () => blob.find(caller), make: () => blob.fetch() };
      return shareBlob({ work, operation }, how, { signal, onProgress: () => undefined });
    };
  };

/** Look first; who finds nothing joins whoever is at it, or begins. */
const naiveEnsure = (blob: Blob): Ensure => {
  const flights = new SingleFlight<Digest, ContentInfo>();
  return async (caller) => (await blob.find(caller)) ?? flights.run(DIGEST, () => blob.fetch(), { signal });
};

export const exhibit: Exhibit = {
  id: "I1c",
  title: "Whoever looked just before the end begins a second time",
  story: [
    "Joining was added, and the look at the cache stayed where it was: before it. Between the two lies the time that a stat or a query",
    'takes. Libraries that share calls say in their documentation that they are no cache; it is read as "put a cache in front".',
    'Order: ann\'s fetch is under way; bob looks, and it is not there yet; the fetch ends; bob hears "not there", finds nobody to join,',
    "and fetches it again.",
    "Kiln looks twice: the caller before it joins, which makes the common case cheap, and the run itself when it has begun. As long as",
    "the run lasts nobody else can begin, so what its own look does not find is not there.",
    "Code: `packages/daemon/src/operations/joined-work.ts` (`find`), `pipeline/share-blob.ts`.",
  ],
  complaint: "one layer for two images was fetched 2 times",
  kiln: (scheduler) => scenario(scheduler, kilnEnsure(scheduler)),
  naive: (scheduler) => scenario(scheduler, naiveEnsure),
};
