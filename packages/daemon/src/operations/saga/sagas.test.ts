import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { Readable } from "node:stream";
import { createVmRequest, pullImageRequest, registerImageRequest, type VmId } from "@kiln/protocol";
import { STARTABLE_STATES } from "../../vms/record.ts";
import { adoptVms } from "../adopt-vms.ts";
import type { Core } from "../core.ts";
import { CREATE_SAGA, type CreateContext, createContext } from "../create-vm.ts";
import { ENSURE_SAGA, type EnsureContext, ensureContext } from "../images.ts";
import type { OperationContext } from "../operation.ts";
import { REGISTER_SAGA, type RegisterContext } from "../register-image.ts";
import { DELETE_SAGA, type DeleteContext, removeVm } from "../remove-vm.ts";
import { START_SAGA, type StartContext, startContext } from "../start-vm.ts";
import { STOP_SAGA, type StopContext } from "../stop-vm.ts";
import { createFakeCore, type FakeCore } from "../testing/fake-core.ts";
import { sagaContract, type SagaWorld } from "./saga.contract.ts";
import type { SagaRecord } from "./saga.ts";

/** The contract of sagas, applied to each of Kiln's on the fake driver with a real SQLite. */

const OPERATION: OperationContext = {
  ...{ id: "op_0123456789abcdef" as never, caller: "", signal: new AbortController().signal },
  ...{
    phase: () => undefined,
    report: () => undefined,
    parts: () => undefined,
    output: () => undefined,
    found: () => undefined,
    position: () => undefined,
  },
};

/** What an outsider sees, without what a retry may change: ids, times, epochs. */
const look = async (core: Core, fake: FakeCore): Promise<unknown> => ({
  vms: core.vms.list().map((vm) => ({ name: vm.name, state: STARTABLE_STATES.has(vm.state) ? "startable" : vm.state })),
  reserved: core.vms.reserved(),
  machines: [...fake.host.machines].map((machine) => machine.spec.id).length,
  running: core.running.list().map((run) => run.name),
  directories: (await readdir(core.config.home)).length,
  images: core.images.listImages().map((image) => image.reference),
  leases: core.leases.active,
});

interface Plan<Context> {
  readonly saga: { readonly name: string };
  /** What is there before: a VM, started or not. */
  readonly vm: "none" | "image only" | "created" | "running";
  readonly prepare?: (core: Core) => Promise<unknown>;
  readonly input: (id: VmId) => unknown;
  readonly open: (core: Core, record: SagaRecord, scope: AsyncDisposableStack) => Context;
}

const worldOf =
  <Context>(plan: Plan<Context>) =>
  async (): Promise<SagaWorld<Context>> => {
    const fake = await createFakeCore();
    let core = fake.core;
    if (plan.vm !== "none") await fake.ended(fake.create({ name: "web", start: plan.vm === "running" }));
    if (plan.vm === "image only") await removeVm(core, core.vms.find("web")?.id ?? ("" as VmId), { force: true });
    await plan.prepare?.(core);
    const id = core.vms.find("web")?.id ?? ("0123456789ab" as VmId);
    // a directory that a start makes is the VM's own: it is there before, so that looks compare
    if (plan.vm === "created") await core.disks.prepare(id, { diskBytes: 8 * 2 ** 30, signal: OPERATION.signal });
    const isTaken = plan.saga.name === "vm.start" || plan.saga.name === "vm.delete";
    return {
      first: { operation: OPERATION.id, saga: plan.saga.name, input: plan.input(id), outputs: {}, failure: null, resumes: 0 },
      log: core.sagas,
      open: async (record, scope) => {
        if (record.resumes > 0) await adoptVms(core, new Set(isTaken ? [id] : []));
        return plan.open(core, record, scope);
      },
      crash: async () => void (core = fake.restart()),
      look: () => look(core, fake),
      [Symbol.asyncDispose]: () => fake[Symbol.asyncDispose](),
    };
  };

sagaContract<StartContext>(
  START_SAGA,
  worldOf({
    saga: START_SAGA,
    vm: "created",
    input: (vm) => ({ vm, afterCreate: false }),
    open: (core, record) => startContext(core, record, OPERATION),
  }),
);

const request = createVmRequest.parse({ image: "deb:fake", name: "web", command: ["true"] });

sagaContract<CreateContext>(
  CREATE_SAGA,
  worldOf({
    saga: CREATE_SAGA,
    vm: "image only", // what was pulled stays, whatever becomes of the VM
    input: (id) => ({ request, id, machineId: "0".repeat(32), createdAt: "2026-01-01T00:00:00.000Z" }),
    open: (core, record, scope) =>
      createContext(core, record, { operation: OPERATION, credentials: {}, lease: scope.use(core.leases.begin()) }),
  }),
);

sagaContract<StopContext>(
  STOP_SAGA,
  worldOf({
    saga: STOP_SAGA,
    vm: "running",
    input: (vm) => ({ vm, timeoutMs: 1000 }),
    open: (core, record) => ({ core, id: (record.input as { vm: VmId }).vm, timeoutMs: 1000, operation: OPERATION }),
  }),
);

sagaContract<DeleteContext>(
  DELETE_SAGA,
  worldOf({
    saga: DELETE_SAGA,
    vm: "running",
    input: (vm) => ({ vm, force: true }),
    open: (core, record) => ({ core, id: (record.input as { vm: VmId }).vm }),
  }),
);

sagaContract<EnsureContext>(
  ENSURE_SAGA,
  worldOf({
    saga: ENSURE_SAGA,
    vm: "none",
    input: () => pullImageRequest.parse({ reference: "deb:fake", pull: "missing" }),
    open: (core, record, scope) =>
      ensureContext(core, record, { operation: OPERATION, credentials: {}, lease: scope.use(core.leases.begin()) }),
  }),
);

const FILE_SYSTEM = Buffer.from("a file system");
const ROOTFS = `sha256:${createHash("sha256").update(FILE_SYSTEM).digest("hex")}`;

sagaContract<RegisterContext>(
  REGISTER_SAGA,
  worldOf({
    saga: REGISTER_SAGA,
    vm: "none",
    prepare: async ({ content, leases }) => {
      using lease = leases.begin();
      return await content.ingestUnnamed(Readable.from([FILE_SYSTEM]), { lease, signal: OPERATION.signal });
    },
    input: () => ({
      request: registerImageRequest.parse({ name: "mine:1", rootfs: ROOTFS }),
      reference: "docker.io/library/mine:1",
      claim: { expect: null, replace: false },
    }),
    open: (core, record, scope) => ({
      ...{ core, input: record.input as RegisterContext["input"], operation: OPERATION },
      ...{ lease: scope.use(core.leases.begin()), record: null },
    }),
  }),
);
