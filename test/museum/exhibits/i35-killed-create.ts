import { createVmRequest, type OperationView, type VmId } from "@kiln/protocol";
import { randomHex } from "@kiln/std";
import { type Core, nowIso } from "../../../packages/daemon/src/operations/core.ts";
import { CREATE_SAGA, createContext } from "../../../packages/daemon/src/operations/create-vm.ts";
import { firstRecord } from "../../../packages/daemon/src/operations/operations.ts";
import { NO_LOG, runSaga } from "../../../packages/daemon/src/operations/saga/saga.ts";
import { startBuilder } from "../../../packages/daemon/src/operations/start-vm.ts";
import { LIVE_STATES } from "../../../packages/daemon/src/vms/states.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { beginCreate, create, ended, IMAGE, openDaemon, sceneOf, SEEDS_OF_A_DAEMON, whatItSaid } from "../daemon.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { Actor } from "../stage.ts";

/** Begins to make a VM and to start it. */
type Begin = (core: Core) => OperationView;

const NAME = "web";

const scenario = async (scheduler: Scheduler, begin: Begin): Promise<void> => {
  const { world, core } = await openDaemon(scheduler);
  await create(core, { name: "other" });
  sceneOf(scheduler, "a daemon starts, and pulls the image");
  const [client, killer] = [new Actor(scheduler, "client"), new Actor(scheduler, "OOM killer")];
  await client.step("creates web");
  const operation = begin(core);
  for (let time = scheduler.dice.below(60); time >= 0; time -= 1) await killer.step("looks round");
  killer.says("kills the daemon");
  world.killDaemon();
  const { core: next } = await world.startDaemon();
  const outcome = await ended(next, next.operations.get(operation.id));
  client.says(`asks the next daemon for its operation: ${whatItSaid(outcome)}`);
  if (outcome.state !== "succeeded") {
    const again = await create(next, { name: NAME });
    must(again.state === "succeeded", `the create was interrupted, and asked for again it says: ${whatItSaid(again)}`);
  }
  for (const { spec } of world.host.machines) {
    const state = next.vms.get(spec.id as VmId)?.state;
    must(state !== undefined && LIVE_STATES.has(state), `a guest runs, and its VM is ${state ?? "unknown"}`);
  }
  for (const { id, name, state } of next.vms.list())
    must(!LIVE_STATES.has(state) || world.host.find(id) !== null, `${name} is ${state}, and no guest runs`);
};

/** The same steps one after the other; where each stands only its own stack knows. */
const oneAfterTheOther: Begin = (core) => {
  const id = randomHex(core.random, 6) as VmId;
  const request = { ...createVmRequest.parse({ image: IMAGE, command: ["sleep", "1000"], startMode: "cold" }), name: NAME };
  const input = { request, id, machineId: randomHex(core.random, 16), createdAt: nowIso(core) };
  return core.operations.begin(
    { kind: "vm.create", key: id, subject: NAME },
    async (operation) => {
      using lease = core.leases.begin(operation.id);
      const record = firstRecord(operation.id, { name: CREATE_SAGA.name, input });
      const context = createContext(core, record, { operation, credentials: {}, lease });
      const onStep = (name: string): void => operation.phase(name);
      await runSaga(CREATE_SAGA, { context, record, log: NO_LOG, signal: operation.signal, onStep, checkpoint: core.checkpoint });
      await startBuilder(core, id, operation);
      return id;
    },
    null,
  );
};

export const exhibit: Exhibit = {
  id: "I35",
  title: "The daemon dies in the middle of a create, and the name is taken by what is left",
  story: [
    "A daemon is killed: by the OOM killer, an upgrade, a full disk. Its operations were functions on a stack, so the next daemon can only",
    "call them interrupted. The client, as told, asks again, and hears that the name is taken: by its own half of a VM, which nobody",
    "asked for, holds a disk, and will never run. Where the guest was booted before the record was written, there is no name to remove it by.",
    "Order: the create reserves the name; the daemon is killed; the next one says INTERRUPTED; the second try fails.",
    "Kiln's long actions are sagas: each step and its way back can be done twice, and after each the log in the database says how far it",
    "is. The next daemon goes on, under the same id, or takes it back; the client that waited gets its answer from there.",
    "Code: `packages/daemon/src/operations/saga/saga.ts`, `resume-operations.ts`; [the crash matrix](crash-matrix.md) kills at every point.",
  ],
  seeds: SEEDS_OF_A_DAEMON,
  complaint: "the create was interrupted, and asked for again it says",
  kiln: (scheduler) => scenario(scheduler, (core) => beginCreate(core, { name: NAME, start: true })),
  naive: (scheduler) => scenario(scheduler, oneAfterTheOther),
};
