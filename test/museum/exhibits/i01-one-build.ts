import type { Digest } from "@kiln/protocol";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { createKiln, digestOf, fingerprintOf, imageRecord } from "../kiln/pipeline.ts";
import { Actor, actors } from "../stage.ts";

type Build = (builder: Actor) => Promise<Digest>;
/** The rootfs of one image, built where it is missing. */
type Ensure = (caller: Actor) => Promise<Digest>;

const DIGEST = digestOf("a");

const scenario = async (scheduler: Scheduler, underTest: (build: Build) => Ensure): Promise<void> => {
  const callers = actors(scheduler, "ann", "bob", "cem");
  let builds = 0;
  const ensure = underTest(async (builder) => {
    builds += 1;
    builder.says(`begins build ${builds}`);
    await builder.step("unpack");
    await builder.step("write");
    return DIGEST;
  });
  const got = await Promise.all(
    callers.map(async (caller) => {
      await caller.step("run the image");
      return ensure(caller);
    }),
  );
  must(
    got.every((digest) => digest === DIGEST),
    "a caller got something else",
  );
  must(builds === 1, `three callers of one image made ${builds} builds of it`);
};

const kilnEnsure =
  (scheduler: Scheduler) =>
  (build: Build): Ensure => {
    const rootfsFiles = { build: async () => ({ digest: await build(new Actor(scheduler, "builder")), fingerprint: fingerprintOf(1) }) };
    const { pipeline } = createKiln(scheduler, { rootfsFiles });
    const { signal } = new AbortController();
    return async () => (await pipeline.ensureRootfs(imageRecord("debian", DIGEST), { signal })).digest;
  };

/** Look whether it is there; if not, make it. */
const naiveEnsure = (build: Build): Ensure => {
  const cache = new Map<string, Digest>();
  return async (caller) => {
    await caller.step("look");
    const known = cache.get("debian");
    if (known !== undefined) return known;
    caller.says("finds nothing");
    const built = await build(caller);
    cache.set("debian", built);
    return built;
  };
};

export const exhibit: Exhibit = {
  id: "I1",
  title: "Many ask for one missing image at once, and each of them builds it",
  story: [
    "Nearly every cache of images began as: look whether it is there; if not, make it; put it in. Twenty jobs that start at the same",
    "time on a new host all look before the first has put anything, so the same image is fetched and unpacked twenty times at once,",
    "which is when the disk fills and the registry begins to refuse.",
    "Order: ann looks and finds nothing; bob looks and finds nothing; both build.",
    "Kiln joins: whoever asks first begins the work in the turn in which it asks, and all others wait for that one. Where the look itself",
    "takes time see I1c, and for builders in two processes I1b.",
    "Code: `packages/std/src/single-flight.ts`, `packages/daemon/src/operations/joined-work.ts`, `pipeline/pipeline.ts`.",
  ],
  complaint: "three callers of one image made",
  kiln: (scheduler) => scenario(scheduler, kilnEnsure(scheduler)),
  naive: (scheduler) => scenario(scheduler, naiveEnsure),
};
