import { execInVm } from "../../../packages/daemon/src/operations/stream-vm.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import type { SimWorld } from "../../sim/world/world.ts";
import { create, openDaemon, sceneOf, SEEDS_OF_A_DAEMON, vmOf } from "../daemon.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { Actor, outcomeOf } from "../stage.ts";

/** Ends the daemon in order. */
type Stop = (world: SimWorld) => Promise<void>;

const { signal } = new AbortController();

const scenario = async (scheduler: Scheduler, stop: Stop): Promise<void> => {
  const { world, core } = await openDaemon(scheduler);
  const id = vmOf(await create(core, { name: "web", start: true }));
  const before = core.vms.get(id);
  sceneOf(scheduler, "a daemon starts, and web runs");
  const admin = new Actor(scheduler, "admin");
  await admin.step("upgrades the daemon: stops it");
  await stop(world);
  await admin.step("starts the new one");
  const { core: next } = await world.startDaemon();
  const after = next.vms.get(id);
  admin.says(`sees that web is ${after?.state}`);
  must(after?.state === "running" && after.bootId === before?.bootId, `the daemon was upgraded, and web, which ran, is ${after?.state}`);
  const answer = await outcomeOf(answerOf(world, id));
  must(
    answer.ok && answer.value === "still here\n",
    `the daemon was upgraded, and web, which runs, answers ${answer.ok ? answer.value : answer.error.message}`,
  );
};

const answerOf = async (world: SimWorld, id: string): Promise<string> => {
  const { core } = world.daemon ?? {};
  if (core === undefined) return "";
  const request = {
    id: "after",
    epoch: null,
    command: ["echo", "still here"],
    env: [],
    workingDir: null,
    user: null,
    tty: null,
    stdin: false,
  };
  const stream = await execInVm(core, id, { request: { ...request, overflow: "block" }, signal });
  let text = "";
  for await (const { offset, bytes, stream: name } of stream.output) {
    text += new TextDecoder().decode(bytes);
    stream.acknowledge(name as "stdout", offset + bytes.length);
  }
  await stream.leave(true);
  return text;
};

/** What it has started, it ends. */
const endChildren: Stop = async (world) => {
  await Promise.all((world.daemon?.core.running.list() ?? []).map((run) => run.vmm.kill()));
  await world.stopDaemon();
};

export const exhibit: Exhibit = {
  id: "I36",
  title: "The daemon is upgraded, and every VM with it",
  story: [
    "A daemon that ends cleans up after itself, and what it has started are its children: a restart for a new version ends all VMs of the",
    "host, or the service manager does it, since they are in one control group. Or the VMs live on and the new daemon does not know them:",
    "their pids are in nobody's table, their output goes nowhere, and their memory is given to others.",
    "Order: the daemon is told to stop; it ends its VMs; the new one finds them dead.",
    "Kiln's VMMs are no part of the daemon: it lets go of them. The next one compares its records with what runs, takes over what is really",
    "the same process, opens a session in the same epoch, and goes on with the output where the last acknowledged byte was.",
    "Code: `packages/daemon/src/operations/hand-over.ts`, `adopt-vms.ts`, `reconcile.ts`.",
  ],
  seeds: SEEDS_OF_A_DAEMON,
  complaint: "the daemon was upgraded, and web",
  kiln: (scheduler) => scenario(scheduler, (world) => world.stopDaemon()),
  naive: (scheduler) => scenario(scheduler, endChildren),
};
