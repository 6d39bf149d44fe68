import { KilnError, type VmId } from "@kiln/protocol";
import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import { removeVm } from "../../../packages/daemon/src/operations/remove-vm.ts";
import { beginStartVm } from "../../../packages/daemon/src/operations/start-vm.ts";
import type { VmDisks } from "../../../packages/daemon/src/vms/disks.port.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { HOME } from "../../sim/world/paths.ts";
import { create, ended, openDaemon, vmOf, whatItSaid, sceneOf, SEEDS_OF_A_DAEMON } from "../daemon.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { Actor, outcomeOf } from "../stage.ts";

/** Removes a VM, whatever it is doing. */
type Remove = (core: Core, id: VmId) => Promise<void>;

const NOBODY = { idempotencyKey: null, caller: "" };
const FAILS = 0.3;

/** A directory that cannot be removed the first time: a file of it is still open on a network's disk. */
const failingOnce = (disks: VmDisks, fails: boolean): VmDisks => {
  let left = fails ? 1 : 0;
  return new Proxy(disks, {
    get: (target, key) => {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== "function") return value;
      if (key !== "remove" || left === 0) return (value as (...args: unknown[]) => unknown).bind(target);
      left -= 1;
      return () => Promise.reject(new KilnError("INTERNAL", "EBUSY: the directory of the VM is busy"));
    },
  });
};

const scenario = async (scheduler: Scheduler, remove: Remove): Promise<void> => {
  const { world, core: daemon } = await openDaemon(scheduler);
  const core = { ...daemon, disks: failingOnce(daemon.disks, scheduler.dice.chance(FAILS)) };
  const id = vmOf(await create(core, { name: "web" }));
  sceneOf(scheduler, "a daemon starts, and web is created");
  const start = async (): Promise<void> => {
    const user = new Actor(scheduler, "user");
    await user.step("starts web");
    if (core.vms.get(id) === null) return;
    user.says(whatItSaid(await ended(core, beginStartVm(core, id, NOBODY))));
  };
  const removeIt = async (name: string): Promise<void> => {
    const client = new Actor(scheduler, name);
    for (let time = scheduler.dice.below(20); time >= 0; time -= 1) await client.step("waits");
    const outcome = await outcomeOf(remove(core, id));
    client.says(outcome.ok ? "has removed web" : outcome.error.message);
  };
  await Promise.all([start(), removeIt("rm -f"), removeIt("rm -f, too")]);
  if (core.vms.get(id) !== null) await remove(core, id);
  must(core.vms.get(id) === null, "web was removed and is listed");
  must(world.host.find(id) === null, "web was removed, and its guest runs on: no record leads to it");
  must(world.disk.list(`${HOME.vms}/${id}`).length === 0, "web was removed, and its files are left: no record leads to them");
  must(core.vms.reserved().memoryBytes === 0, "web was removed, and its memory is held");
};

/** The record goes first, so that nobody can use it any more; then what it had. */
const recordFirst: Remove = async (core, id) => {
  core.vms.remove(id);
  const run = core.running.get(id);
  if (run !== null) run.ending = "kill";
  await run?.vmm.kill();
  await core.disks.remove(id);
};

export const exhibit: Exhibit = {
  id: "I22",
  title: "The record is deleted, and what it stood for stays",
  story: [
    "Delete takes the record away first, so that nobody uses the VM any more, and then cleans up. A start that was in flight makes the",
    "directory afterwards; a directory that is busy makes the clean-up end at its first step; and the daemon may be killed in between. Then",
    "there is a disk, or a guest, that no command can name: `rm` says that there is no such VM.",
    "Order: a start has reserved; rm takes the record and finds no guest and no files; the start makes the disk.",
    "Kiln cancels the start, waits for its end under the VM's lock, marks the VM as deleting, ends what runs, removes its files, and forgets",
    "it last. Every step runs even if one before it failed; then the record stays, and rm can be said again, in every state.",
    "Code: `packages/daemon/src/operations/remove-vm.ts`.",
  ],
  seeds: SEEDS_OF_A_DAEMON,
  complaint: "no record leads to",
  kiln: (scheduler) => scenario(scheduler, (core, id) => removeVm(core, id, { force: true })),
  naive: (scheduler) => scenario(scheduler, recordFirst),
};
