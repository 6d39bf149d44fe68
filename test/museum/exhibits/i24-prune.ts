import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import { prune } from "../../../packages/daemon/src/operations/prune.ts";
import { removeVm } from "../../../packages/daemon/src/operations/remove-vm.ts";
import { beginStartVm } from "../../../packages/daemon/src/operations/start-vm.ts";
import { beginStopVm } from "../../../packages/daemon/src/operations/stop-vm.ts";
import type { HomeUsage } from "../../../packages/daemon/src/operations/usage.port.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { create, ended, openDaemon, vmOf, whatItSaid, sceneOf, SEEDS_OF_A_DAEMON } from "../daemon.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { Actor } from "../stage.ts";

/** Removes VMs that have ended. `usage` says how large things are. */
type Prune = (core: Core, usage: HomeUsage) => Promise<void>;

const NOBODY = { idempotencyKey: null, caller: "" };

const scenario = async (scheduler: Scheduler, underTest: Prune): Promise<void> => {
  const { world, core } = await openDaemon(scheduler);
  const id = vmOf(await create(core, { name: "web", start: true }));
  await ended(core, beginStopVm(core, id, { ...NOBODY, timeoutMs: 1_000 }));
  must(core.vms.get(id)?.state === "exited", "web has not been stopped");
  sceneOf(scheduler, "a daemon starts; web is created, started and stopped");
  const [user, nightly] = [new Actor(scheduler, "user"), new Actor(scheduler, "nightly job")];
  const start = async (): Promise<boolean> => {
    for (let time = scheduler.dice.below(60); time >= 0; time -= 1) await user.step("waits");
    user.says("starts web");
    if (core.vms.get(id) === null) return false;
    const outcome = await ended(core, beginStartVm(core, id, NOBODY));
    user.says(whatItSaid(outcome));
    must(outcome.state !== "cancelled", "web was started again, and prune cancelled that: it had been stopped when prune looked");
    return outcome.state === "succeeded";
  };
  const clean = async (): Promise<void> => {
    await nightly.step("prunes");
    await underTest(core, usageOf(nightly, scheduler.dice.below(20)));
    nightly.says("has pruned");
  };
  const [isStarted] = await Promise.all([start(), clean()]);
  if (!isStarted) return;
  must(core.vms.get(id) !== null, "web was started again, and prune removed it: it had been stopped when prune looked");
  must(world.host.find(id) !== null, "web was started again, and its guest is gone");
};

/** To measure takes time, in which others go on. */
const usageOf = (measuring: Actor, files: number): HomeUsage => {
  const none = async (): Promise<readonly never[]> => {
    for (let file = 0; file < files; file += 1) await measuring.step("measures a file");
    return [];
  };
  return {
    ...{ content: none, rootfs: none, kernels: none, preboots: none, vms: none, other: none, staging: none, existing: none },
    freeBytes: async () => 0,
  };
};

/** What is to go, then each of them. */
const listThenRemove: Prune = async (core, usage) => {
  const old = core.vms.list().filter(({ state }) => state === "exited" || state === "failed");
  await usage.vms();
  for (const { id } of old) await removeVm(core, id, { force: true });
};

export const exhibit: Exhibit = {
  id: "I24",
  title: "Prune removes what was old when it looked",
  story: [
    "Prune lists what has ended, measures how much room that takes, asks whether it may, and removes what is in its list. By then somebody",
    "has started one of them again, or a create that was half done had looked like garbage. It removes a VM that runs, with the disk that",
    "a person was just about to save.",
    "Order: prune lists web, which was stopped; web is started; prune removes web.",
    "Kiln's plan is a proposal: each VM is removed under its own lock, if its state and its epoch are still those of the plan, and nobody's",
    "start is cancelled for it. Images go in a transaction that looks at their users; files that work has on lease stay.",
    "Code: `packages/daemon/src/operations/prune.ts`, `remove-vm.ts`, `sweep.ts`.",
  ],
  seeds: SEEDS_OF_A_DAEMON,
  complaint: "web was started again",
  kiln: (scheduler) =>
    scenario(
      scheduler,
      async (core, usage) => void (await prune(core, usage, { vms: true, images: false, kernels: false, dryRun: false })),
    ),
  naive: (scheduler) => scenario(scheduler, listThenRemove),
};
