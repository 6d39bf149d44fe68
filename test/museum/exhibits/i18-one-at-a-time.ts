import type { OperationView, VmId } from "@kiln/protocol";
import { abortable, Deferred, KeyedLock } from "@kiln/std";
import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import { beginStartVm } from "../../../packages/daemon/src/operations/start-vm.ts";
import { beginStopVm } from "../../../packages/daemon/src/operations/stop-vm.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { create, ended, openDaemon, vmOf, sceneOf, SEEDS_OF_A_DAEMON } from "../daemon.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { Actor } from "../stage.ts";

const NOBODY = { idempotencyKey: null, caller: "" };

/** Looks who is inside. */
class Watched extends KeyedLock<VmId> {
  readonly #lock: KeyedLock<VmId>;
  #inside = 0;
  most = 0;

  constructor(lock: KeyedLock<VmId>) {
    super();
    this.#lock = lock;
  }

  override async acquire(key: VmId, options: { signal: AbortSignal }): Promise<Disposable> {
    const held = await this.#lock.acquire(key, options);
    this.#inside += 1;
    this.most = Math.max(this.most, this.#inside);
    return {
      [Symbol.dispose]: () => {
        this.#inside -= 1;
        held[Symbol.dispose]();
      },
    };
  }
}

const scenario = async (scheduler: Scheduler, lock: KeyedLock<VmId>): Promise<void> => {
  const { core } = await openDaemon(scheduler);
  const vmLocks = new Watched(lock);
  const watched: Core = { ...core, vmLocks };
  const id = vmOf(await create(watched, { name: "web" }));
  sceneOf(scheduler, "a daemon starts, and web is created");
  const asks: readonly (readonly [string, () => OperationView])[] = [
    ["start", () => beginStartVm(watched, id, NOBODY)],
    ["stop", () => beginStopVm(watched, id, { ...NOBODY, timeoutMs: 1_000 })],
    ["start again", () => beginStartVm(watched, id, NOBODY)],
  ];
  const ask = async ([name, begin]: (typeof asks)[number]): Promise<void> => {
    const client = new Actor(scheduler, name);
    await client.step("asks");
    const { state } = await ended(core, begin());
    client.says(state);
  };
  await Promise.all(asks.map(ask));
  must(vmLocks.most === 1, `${vmLocks.most} operations were at work on one VM at once`);
};

/** Waits for whoever is at it, then is at it. */
class WaitThenTake extends KeyedLock<VmId> {
  readonly #busy = new Map<VmId, Deferred<void>>();

  override async acquire(key: VmId, options: { signal: AbortSignal }): Promise<Disposable> {
    const busy = this.#busy.get(key);
    if (busy !== undefined) await abortable(busy.promise, options.signal);
    const mine = new Deferred<void>();
    this.#busy.set(key, mine);
    return {
      [Symbol.dispose]: () => {
        this.#busy.delete(key);
        mine.resolve();
      },
    };
  }
}

export const exhibit: Exhibit = {
  id: "I18",
  title: "Two who have waited for one lock both have it",
  story: [
    "A promise for each VM that is busy; whoever comes awaits it and puts in its own. With two callers that is a lock. With three, two",
    "wait for the same promise, both go on in the turn in which it settles, and the VM is started and stopped at once: a VMM that the",
    "record knows nothing of, or a disk that two write.",
    "Order: a start is at work; a stop and another start wait for it; it ends, and both begin.",
    "Kiln's lock for each key is a queue: who gives it back hands it to the first who waits, and to nobody else. Different VMs have",
    "different locks; a delete makes the start that it waits for end early.",
    "Code: `packages/std/src/keyed-lock.ts`, `semaphore.ts`; taken in `start-vm.ts`, `stop-vm.ts`, `remove-vm.ts`.",
  ],
  seeds: SEEDS_OF_A_DAEMON,
  complaint: "operations were at work on one VM at once",
  kiln: (scheduler) => scenario(scheduler, new KeyedLock()),
  naive: (scheduler) => scenario(scheduler, new WaitThenTake()),
};
