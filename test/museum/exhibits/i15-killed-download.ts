import { KilnError } from "@kiln/protocol";
import { SimDisk } from "../../sim/disk.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { publishBy, STAGING, toBytes, toText } from "../kiln/publish.ts";
import type { World } from "../kiln/rootfs.ts";
import { type Actor, actors, outcomeOf } from "../stage.ts";

/** Stores what comes under the name that says what it has to be. */
type Store = (caller: Actor, world: World, comes: AsyncIterable<string>) => Promise<void>;

const BLOB = "/home/content/sha256/aaaa";
const PARTS = ["the first part of a layer, ", "the second part, ", "and the last one"];
const WHOLE = PARTS.join("");
const FAULTS = ["the registry hangs up", "the registry sends other bytes", "the disk is full", "the daemon is killed"] as const;

const check = (content: string): void => {
  if (content !== WHOLE) throw new KilnError("CONTENT_DIGEST_MISMATCH", "the bytes that came are others");
};

const scenario = async (scheduler: Scheduler, store: Store): Promise<void> => {
  const world = { scheduler, disk: new SimDisk(scheduler) };
  const [puller, next, fate] = actors(scheduler, "puller", "next", "fate") as [Actor, Actor, Actor];
  const fault = scheduler.dice.pick(FAULTS);
  const failsAt = scheduler.dice.below(PARTS.length);
  const comes = async function* (): AsyncGenerator<string> {
    for (const [at, part] of PARTS.entries()) {
      await puller.step("the registry sends a part");
      if (at === failsAt && fault === "the registry hangs up") throw new KilnError("REGISTRY_FAILED", "the registry hung up");
      yield at === failsAt && fault === "the registry sends other bytes" ? part.toUpperCase() : part;
    }
  };
  if (fault === "the disk is full") world.disk.room = scheduler.dice.below(WHOLE.length);
  const strike = async (): Promise<void> => {
    const afterSteps = scheduler.dice.below(10);
    for (let step = 0; step < afterSteps; step += 1) await fate.step("waits");
    if (fault !== "the daemon is killed") return;
    await fate.step("kills the daemon");
    puller.life.end();
  };
  const look = (who: string): void => {
    const found = world.disk.peek(BLOB);
    must(found === null || toText(found) === WHOLE, `${fault}: ${who} finds the blob under its name, and it is not whole`);
  };
  const outcomes: boolean[] = [];
  void outcomeOf(store(puller, world, comes())).then(({ ok }) => outcomes.push(ok));
  await strike();
  for (let time = 1; time <= 4; time += 1) {
    await next.step("look for the blob");
    look("the next one");
  }
  if (fault === "the daemon is killed") return;
  while (outcomes.length === 0) await next.step("wait for the end");
  must(outcomes[0] === false || world.disk.peek(BLOB) !== null, "the puller is told that all is well, and there is nothing");
  look("who comes after the end");
  must(world.disk.list(STAGING).length === 0, `${fault}: something is left in staging`);
};

const kilnStore: Store = async (caller, world, comes) => {
  let content = "";
  await publishBy(caller, world, {
    ...{ target: BLOB, ifExists: "keep" },
    write: async (path, files) => {
      for await (const part of comes) {
        content += part;
        await files.append(path, toBytes(part));
      }
      check(content);
    },
  });
};

/** Written where it belongs; removed, should anything go wrong. */
const naiveStore: Store = async (caller, { disk }, comes) => {
  const files = caller.files(disk);
  let content = "";
  try {
    await files.create(BLOB);
    for await (const part of comes) {
      content += part;
      await files.append(BLOB, toBytes(part));
    }
    check(content);
    await files.sync(BLOB);
  } catch (error) {
    await files.remove(BLOB);
    throw error;
  }
};

export const exhibit: Exhibit = {
  id: "I15",
  title: "A download is written under its final name, and removed should it fail",
  story: [
    "The handler that removes the file on failure is there, and tested: a registry that hangs up, wrong bytes, a full disk. A process",
    "that is killed runs no handler. The next one finds half of a layer under the name of the whole, skips the download, and the error",
    "comes from a decompressor or, worse, from a guest, far from where it was made.",
    "Order: the download begins under its name; the daemon is killed, or is only slow; the next one finds the name.",
    "In Kiln a name appears after the last byte has been counted, hashed and synced. Until then the bytes are in staging under a name",
    "that is nobody's, which goes with any failure at once, and after a kill with the next daemon's sweep. Played here is the name; that",
    "each failure is typed (CONTENT_DIGEST_MISMATCH, DISK_FULL and so on) is shown by `content-store.test.ts` and `disk-full.test.ts`.",
    "Code: `packages/daemon/src/content/content-store.ts` (ingest), `packages/std/src/node/publish-file.ts`, `store/home.ts`.",
  ],
  complaint: "finds the blob under its name, and it is not whole",
  kiln: (scheduler) => scenario(scheduler, kilnStore),
  naive: (scheduler) => scenario(scheduler, naiveStore),
};
