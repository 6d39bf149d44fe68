import type { OperationView } from "@kiln/protocol";
import { Deferred, KeyedLock } from "@kiln/std";
import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { create, IMAGE, openDaemon, whatItSaid, SEEDS_OF_A_DAEMON } from "../daemon.ts";
import { type Exhibit, must } from "../exhibit.ts";

/** Makes a VM and starts it. */
type Run = (core: Core, name: string) => Promise<OperationView>;

const NAMES = ["web", "db", "cache"];
/** A boot that waits for so long for another one waits for more than a boot. */
const MEETING_MS = 30_000;
const { signal } = new AbortController();

const scenario = async (scheduler: Scheduler, run: Run): Promise<void> => {
  const { world, core } = await openDaemon(scheduler, { bootsLimit: 2 });
  const [second, alone] = [new Deferred<void>(), new Deferred<"alone">()];
  let booted = 0;
  /** The first guest that has booted goes on when another one has. */
  const meet = async (): Promise<void> => {
    booted += 1;
    if (booted > 1) return second.resolve();
    const waiting = new AbortController();
    world.clock.sleep(MEETING_MS, { signal: waiting.signal }).then(
      () => alone.resolve("alone"),
      () => undefined,
    );
    await second.promise;
    waiting.abort();
  };
  const watched: Core = {
    ...core,
    checkpoint: async (name) => {
      await core.checkpoint(name);
      if (name === "start.booted") await meet();
    },
  };
  const creates = Promise.all(NAMES.map(async (name) => ({ name, outcome: await run(watched, name) })));
  const outcomes = await Promise.race([creates, alone.promise]);
  must(outcomes !== "alone", "while one VM boots, no other may: one create keeps all others waiting");
  for (const { name, outcome } of outcomes) must(outcome.state === "succeeded", `${name}: ${whatItSaid(outcome)}`);
  const asked = world.registry.counts.get(IMAGE) ?? 0;
  must(asked === 1, `three creates of one missing image pulled it ${asked} times`);
};

const run: Run = (core, name) => create(core, { name, start: true });

/** Nothing can happen twice at once if nothing happens twice at once. */
const underOneLock = (): Run => {
  const creating = new KeyedLock();
  return async (core, name) => {
    using _lock = await creating.acquire("create", { signal });
    return await run(core, name);
  };
};

export const exhibit: Exhibit = {
  id: "I16",
  title: "One create at a time, because of the names",
  story: [
    "Two creates had taken one name, so a mutex was put round create: correct, and the end of parallel starts. Create pulls an image,",
    "makes a disk and boots; sixty-four VMs of a test suite come up one after the other, and one whose registry hangs keeps all the others",
    "waiting. It is found by no test, since each create alone is as fast as before.",
    "Order: one has the lock and boots; another, whose image has long been there, waits for it.",
    "Kiln's create is three things: resolve, which joins whoever pulls or builds the same and holds nothing; reserve, one transaction; start,",
    "under the VM's own lock. Boots overlap up to as many as the host has been said to bear, in a queue whose place is visible.",
    "Code: `packages/daemon/src/operations/create-vm.ts`, `start-vm.ts`, `admission.ts`.",
  ],
  seeds: SEEDS_OF_A_DAEMON,
  complaint: "one create keeps all others waiting",
  kiln: (scheduler) => scenario(scheduler, run),
  naive: (scheduler) => scenario(scheduler, underOneLock()),
};
