import { duplexPair } from "node:stream";
import type { OperationView, VmId } from "@kiln/protocol";
import { prepareFiles } from "../../../packages/daemon/src/operations/boot-vm.ts";
import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import { chooseStart } from "../../../packages/daemon/src/operations/start-path.ts";
import { beginStartVm } from "../../../packages/daemon/src/operations/start-vm.ts";
import type { Driver, Vmm } from "../../../packages/daemon/src/vms/driver.port.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { create, ended, openDaemon, sceneOf, SEEDS_OF_A_DAEMON, vmOf, whatItSaid } from "../daemon.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { Actor } from "../stage.ts";

/** Begins to start a VM from a snapshot where there is one. */
type Begin = (core: Core, id: VmId) => OperationView;

const NOBODY = { idempotencyKey: null, caller: "" };
const SILENT = 0.6;

/** A driver some of whose restored guests hang: their VMM runs, and nobody answers. `hung` has their processes. */
const withHungRestores = (driver: Driver, hung: Set<number>, isHung: () => boolean): Driver => {
  const silent = (vmm: Vmm): Vmm => answering(vmm, "openAgentChannel", () => async () => duplexPair()[0]);
  return answering(driver, "restore", (restore) => async (...args) => {
    const vmm = (await restore(...args)) as Vmm;
    if (!isHung()) return vmm;
    hung.add(vmm.ref.identity.pid);
    return silent(vmm);
  });
};

type Method = (...args: unknown[]) => Promise<unknown>;

/** The object with another answer of one of its methods. */
const answering = <Port extends object>(port: Port, name: keyof Port & string, make: (method: Method) => Method): Port =>
  new Proxy(port, {
    get: (target, key) => {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== "function") return value;
      const method: Method = (value as Method).bind(target);
      return key === name ? make(method) : method;
    },
  });

const scenario = async (scheduler: Scheduler, begin: Begin): Promise<void> => {
  const { world, core: daemon } = await openDaemon(scheduler, { preboot: true });
  const first = await create(daemon, { name: "first", start: true, startMode: "preboot" });
  must(first.state === "succeeded", `a first VM: ${whatItSaid(first)}`);
  const hung = new Set<number>();
  const core = { ...daemon, driver: withHungRestores(daemon.driver, hung, () => scheduler.dice.chance(SILENT)) };
  const id = vmOf(await create(core, { name: "web", startMode: "auto" }));
  sceneOf(scheduler, "a daemon starts, a snapshot is built, and web is created");
  const user = new Actor(scheduler, "user");
  await user.step("starts web");
  const outcome = await ended(core, begin(core, id));
  user.says(`is told: ${whatItSaid(outcome)}`);
  const guests = [...world.host.machines].filter(({ spec }) => spec.id === id);
  const isHung = guests.some(({ identity }) => hung.has(identity.pid));
  must(core.vms.get(id)?.state !== "running" || !isHung, "web is running, says its record, and nobody in it has ever answered");
  must(!isHung, "a restore that failed has left its guest behind");
  must(
    guests.length === (core.vms.get(id)?.state === "running" ? 1 : 0),
    `web is ${core.vms.get(id)?.state} and has ${guests.length} guests`,
  );
};

/** The VMM has loaded the snapshot, so the VM runs. */
const trustTheVmm: Begin = (core, id) =>
  core.operations.begin(
    { kind: "vm.start", key: id, subject: "web" },
    async (operation) => {
      const { signal } = operation;
      const { epoch } = core.vms.get(id) ?? { epoch: 0 };
      const starting = { state: "starting" as const, operation: operation.id, epoch: epoch + 1, bootId: "" };
      const record = await core.admission.claim(id, starting, { from: ["created"], caller: operation });
      const files = await prepareFiles(core, record, { signal, operation: operation.id });
      const { saved } = await chooseStart(core, record, { files, work: { signal, operation: operation.id } });
      using _saved = saved;
      const { cpus, memoryBytes } = record;
      const spec = { id, cpus, memoryBytes, kernel: files, disks: [], network: null, uid: null, directory: core.disks.directory(id) };
      const vmm = await (saved === null ? core.driver.boot(spec, { signal }) : core.driver.restore(spec, saved, { signal }));
      core.vms.change(id, { state: "running", vmm: vmm.ref }, { from: ["starting"] });
      return id;
    },
    null,
  );

export const exhibit: Exhibit = {
  id: "I30",
  title: "The VMM has loaded the snapshot, so the VM is said to run",
  story: [
    "Loading a snapshot succeeds when the VMM has read it; whether the guest in it goes on is another thing. Its clock may stand, its device",
    "may wait for an interrupt of another host, its agent may hold a connection that is gone. A peer wrote `running` after the call, and",
    "each exec waited for a timeout; and where it noticed, it started the VM anew beside the VMM that hung.",
    "Order: restore; the record says running; nobody in the guest answers.",
    "A VM of Kiln's runs when its agent has answered for this epoch and has set it up. A restore that does not come so far in time is ended",
    "first, its process, channel and log, and then the VM boots cold; the record says which way it came, and why not the other.",
    "Code: `packages/daemon/src/operations/boot-vm.ts`, tryRestore().",
  ],
  seeds: SEEDS_OF_A_DAEMON,
  complaint: "nobody in it has ever answered",
  kiln: (scheduler) => scenario(scheduler, (core, id) => beginStartVm(core, id, NOBODY)),
  naive: (scheduler) => scenario(scheduler, trustTheVmm),
};
