import { KilnError, type OperationView, type VmId } from "@kiln/protocol";
import { abortable } from "@kiln/std";
import { prepareFiles } from "../../../packages/daemon/src/operations/boot-vm.ts";
import { connectAgent } from "../../../packages/daemon/src/operations/connect-agent.ts";
import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import { guestSetup } from "../../../packages/daemon/src/operations/guest-setup.ts";
import { beginStartVm } from "../../../packages/daemon/src/operations/start-vm.ts";
import type { VmNetwork } from "../../../packages/daemon/src/operations/vm-network.ts";
import type { KernelFiles, VmmSpec } from "../../../packages/daemon/src/vms/driver.port.ts";
import type { VmRecord } from "../../../packages/daemon/src/vms/record.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { create, ended, openDaemon, vmOf, whatItSaid, sceneOf, SEEDS_OF_A_DAEMON } from "../daemon.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { Actor } from "../stage.ts";
import { MIB } from "../vm-records.ts";

/** Begins to start a VM. */
type Begin = (core: Core, id: VmId) => OperationView;

const NOBODY = { idempotencyKey: null, caller: "" };
const { signal: NEVER } = new AbortController();
/** Room for one of them. */
const MEMORY_BYTES = 768 * MIB;
const A_MINUTE_MS = 60_000;

const scenario = async (scheduler: Scheduler, begin: Begin): Promise<void> => {
  const { world, core } = await openDaemon(scheduler, { memoryBytes: MEMORY_BYTES });
  const [web, db] = [vmOf(await create(core, { name: "web" })), vmOf(await create(core, { name: "db" }))];
  const user = new Actor(scheduler, "user");
  sceneOf(scheduler, "a daemon starts; web and db are created");
  const operation = begin(core, web);
  while (core.vms.get(web)?.state === "created") await user.step("waits");
  for (let time = scheduler.dice.below(60); time >= 0; time -= 1) await user.step("waits");
  user.says("presses ctrl-c");
  core.operations.cancel(operation.id);
  const outcome = await ended(core, operation);
  user.says(`is told: ${whatItSaid(outcome)}`);
  if (outcome.state === "succeeded") return;
  await world.clock.sleep(A_MINUTE_MS, { signal: NEVER });
  must(world.host.find(web) === null, "the start was cancelled, and its guest runs");
  must(core.vms.reserved().memoryBytes === 0, "the start was cancelled, and its memory is held");
  const next = await ended(core, beginStartVm(core, db, NOBODY));
  must(next.state === "succeeded", `after a cancelled start the next one fails: ${whatItSaid(next)}`);
};

const NO_NETWORK: VmNetwork = { vmm: null, guest: null, resolvConf: "" };

const specOf = (core: Core, { id, cpus, memoryBytes }: VmRecord, kernel: KernelFiles): VmmSpec => ({
  ...{ id, cpus, memoryBytes, kernel, disks: [], network: null, uid: null },
  directory: core.disks.directory(id),
});

/** A race between the boot and the caller's patience. */
const raceWithPatience: Begin = (core, id) =>
  core.operations.begin(
    { kind: "vm.start", key: id, subject: "web" },
    async (operation) => {
      const { epoch } = core.vms.get(id) ?? { epoch: 0 };
      const starting = { state: "starting" as const, operation: operation.id, epoch: epoch + 1, bootId: "" };
      const record = await core.admission.claim(id, starting, { from: ["created"], caller: operation });
      const boot = async (): Promise<void> => {
        const files = await prepareFiles(core, record, { signal: NEVER, operation: operation.id });
        const vmm = await core.driver.boot(specOf(core, record, files), { signal: NEVER });
        const session = await connectAgent(core, { vmm, epoch: record.epoch }, NEVER);
        await session.setup(guestSetup(core, record, { files, network: NO_NETWORK, isPrepared: false }), { signal: NEVER });
        core.vms.change(id, { state: "running" }, { from: ["starting"] });
      };
      try {
        await abortable(boot(), operation.signal);
      } catch (error) {
        const failure = { code: "CANCELLED", detail: String(error) };
        core.vms.change(id, { state: "failed", error: failure }, { from: ["starting"] });
        throw error instanceof KilnError ? error : new KilnError("CANCELLED", "the start was cancelled", { cause: error });
      }
      return id;
    },
    null,
  );

export const exhibit: Exhibit = {
  id: "I19",
  title: "A start is cancelled, and what it has started goes on",
  story: [
    "A start takes long, so it is raced against a timer or the caller's signal, and whichever settles first is the answer. The loser of",
    "such a race does not stop: the VMM comes up after all, belongs to a VM that is recorded as failed, and keeps its memory and its disk",
    "for ever, or makes the next start fail since the name, the tap or the lock is held.",
    "Order: the start prepares the disk; ctrl-c; the record says failed; the boot goes on and ends well.",
    "In Kiln cancelled means stopped: the signal goes all the way down, each layer returns when what it began has ended, and the saga takes",
    "back what was reserved before the caller is told. A boot that is too slow ends the same way.",
    "Code: `packages/daemon/src/operations/start-vm.ts`, `boot-vm.ts`, `packages/std/src/deadline.ts`.",
  ],
  seeds: SEEDS_OF_A_DAEMON,
  complaint: "the start was cancelled, and its guest runs",
  kiln: (scheduler) => scenario(scheduler, (core, id) => beginStartVm(core, id, NOBODY)),
  naive: (scheduler) => scenario(scheduler, raceWithPatience),
};
