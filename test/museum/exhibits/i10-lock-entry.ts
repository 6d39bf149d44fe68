import { KeyedLock, Semaphore } from "@kiln/std";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { actors } from "../stage.ts";

type Lock = Pick<KeyedLock<string>, "acquire">;

const KEY = "rootfs of debian";
const { signal } = new AbortController();

const scenario = async (scheduler: Scheduler, lock: Lock): Promise<void> => {
  const inside = new Set<string>();
  await Promise.all(
    actors(scheduler, "ann", "bob", "cem").map(async (builder) => {
      await builder.step("ask for the lock");
      using _held = await lock.acquire(KEY, { signal });
      inside.add(builder.name);
      builder.says("has the lock");
      must(inside.size === 1, `${[...inside].join(" and ")} build one rootfs at once, each under its lock`);
      await builder.step("build");
      inside.delete(builder.name);
      builder.says("gives it back");
    }),
  );
};

/** A mutex for each key; who is done removes the entry, so that the map does not grow for ever. */
class NaiveLock implements Lock {
  readonly #mutexes = new Map<string, Semaphore>();

  async acquire(key: string): Promise<Disposable> {
    const mutex = this.#mutexes.get(key) ?? new Semaphore(1);
    this.#mutexes.set(key, mutex);
    const permit = await mutex.acquire({ signal });
    return {
      [Symbol.dispose]: () => {
        permit[Symbol.dispose]();
        this.#mutexes.delete(key);
      },
    };
  }
}

export const exhibit: Exhibit = {
  id: "I10",
  title: "A lock's entry is deleted while somebody waits for it, and the lock is two",
  story: [
    "A lock for each key lives in a map, and a daemon that runs for months cannot keep an entry for each key that ever was. So whoever",
    "is done deletes the entry. This passes every test with two callers; it takes three.",
    "Order: ann holds the lock and bob waits for it; ann gives it back, which wakes bob, and deletes the entry; cem comes, finds no",
    "entry, makes a second mutex for the same key, and is inside together with bob. Both write the same files.",
    "Kiln counts: an entry has a number of references, its holder and all who wait, and goes when that reaches zero, in the same turn",
    "in which the last of them leaves, whether it had the lock or gave up waiting.",
    "Code: `packages/std/src/keyed-lock.ts`; each VM's operations are serial by it.",
  ],
  complaint: "build one rootfs at once, each under its lock",
  kiln: (scheduler) => scenario(scheduler, new KeyedLock<string>()),
  naive: (scheduler) => scenario(scheduler, new NaiveLock()),
};
