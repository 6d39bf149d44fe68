import { type Platform, platformText } from "@kiln/formats/oci";
import { type CreateVm, DEFAULTS, KilnError, type OperationView, type RegistryCredentials, type VmId } from "@kiln/protocol";
import { randomHex } from "@kiln/std";
import { type ResolvedCommand, resolveCommand } from "../images/command.ts";
import { suits } from "../images/host-platform.ts";
import type { ContentLease } from "../images/ports.ts";
import type { ImageRecord } from "../images/records.port.ts";
import { distinctPorts, toPublishedPort } from "../vms/ports.ts";
import { NO_RUN, type VmRecord } from "../vms/record.ts";
import { type Core, nowIso } from "./core.ts";
import { buildRootfs, type CallerFacts, fetchImage, sourceRequest, workFor } from "./images.ts";
import { proposeName } from "./names.ts";
import type { OperationContext } from "./operation.ts";
import { firstRecord } from "./operations.ts";
import { removeVm } from "./remove-vm.ts";
import { runSaga, type Saga, type SagaRecord } from "./saga/saga.ts";
import { sweepUnused } from "./sweep.ts";
import { continueStart, startInput } from "./start-vm.ts";
import { mintMac } from "./vm-network.ts";

export const VM_ID_BYTES = 6;
export const MACHINE_ID_BYTES = 16;

/** Decided at the beginning, so that doing a step again makes the same VM. */
interface CreateInput {
  readonly request: CreateVm & { readonly name: string };
  readonly id: VmId;
  readonly machineId: string;
  readonly createdAt: string;
}

export interface CreateContext {
  readonly core: Core;
  readonly input: CreateInput;
  readonly operation: OperationContext;
  /** They are in no record: a daemon that takes the create up again asks the registry as a stranger. */
  readonly credentials: RegistryCredentials;
  /** Keeps what was resolved until the VM's record names it. */
  readonly lease: ContentLease;
  resolved: Resolved | null;
  /** The name meant another image before. */
  hasMoved: boolean;
}

interface Resolved {
  readonly image: ImageRecord;
  readonly rootfs: { readonly key: string; readonly digest: string };
  readonly kernel: { readonly key: string; readonly name: string };
}

/** create = resolve, reserve, start. Nothing is held while images and kernels are made; the reservation is one transaction. */
export const beginCreateVm = (core: Core, request: CreateVm, facts: CallerFacts): OperationView => {
  const { idempotencyKey, credentials, caller } = facts;
  const name = request.name ?? proposeName(core.random);
  const input: CreateInput = {
    request: { ...request, name },
    id: randomHex(core.random, VM_ID_BYTES) as VmId,
    machineId: randomHex(core.random, MACHINE_ID_BYTES),
    createdAt: nowIso(core),
  };
  const wanted = { reference: request.image, pull: request.pull, ...sourceRequest(request, credentials) };
  const joined = core.pipeline.inFlight(wanted, { kernel: true });
  return core.operations.beginSaga(
    {
      spec: { kind: "vm.create", key: input.id, subject: name, caller, joined },
      idempotency: idempotencyKey === null ? null : { key: idempotencyKey, request },
      saga: { name: CREATE_SAGA.name, input },
    },
    (operation, saga) => continueCreate(core, { saga, operation, credentials }),
  );
};

/** From where the saga stands to a VM that is there, and runs if that was asked for. */
export const continueCreate = async (
  core: Core,
  held: { readonly saga: SagaRecord } & Pick<CreateContext, "operation" | "credentials">,
): Promise<string> => {
  const { saga, operation, credentials } = held;
  const input = saga.input as CreateInput;
  const next = input.request.start ? firstRecord(operation.id, startInput(input.id, { afterCreate: true })) : null;
  await createUnderLease(core, { saga, next }, { operation, credentials });
  return next === null ? input.id : continueStart(core, next, operation);
};

const createUnderLease = async (
  core: Core,
  { saga, next }: { saga: SagaRecord; next: SagaRecord | null },
  held: Pick<CreateContext, "operation" | "credentials">,
): Promise<void> => {
  await using afterLease = new AsyncDisposableStack();
  using lease = core.leases.begin(held.operation.id);
  const context = createContext(core, saga, { ...held, lease });
  // also where it fails: what the name led to before is nobody's by then
  afterLease.defer(async () => {
    if (context.hasMoved) await sweepUnused(core);
  });
  const { signal } = held.operation;
  const onStep = (name: string): void => held.operation.phase(name);
  await runSaga(CREATE_SAGA, { context, record: saga, log: core.sagas, signal, onStep, next, checkpoint: core.checkpoint });
};

export const createContext = (
  core: Core,
  saga: SagaRecord,
  held: Pick<CreateContext, "operation" | "credentials" | "lease">,
): CreateContext => ({
  ...{ core, input: saga.input as CreateInput, ...held },
  ...{ resolved: null, hasMoved: false },
});

/** Image, rootfs and kernel, whole; fetched and built where they are missing. */
const resolve = async (context: CreateContext): Promise<unknown> => {
  const { core, input, operation, credentials, lease } = context;
  const { request } = input;
  const from = sourceRequest(request, credentials);
  requireOwnPlatform(core, request, from.platform);
  const wanted = { ...from, reference: request.image, pull: request.pull, lease };
  const options = workFor(operation);
  const fetch = async (signal: AbortSignal): Promise<ImageRecord> => {
    const { record, hasMoved } = await fetchImage(core, wanted, { ...options, signal });
    context.hasMoved ||= hasMoved;
    return record;
  };
  const [image, kernel] = await allOrNone(operation.signal, (signal) => [
    fetch(signal),
    core.pipeline.ensureKernel({ ...options, signal }),
  ]);
  resolveCommand(image.image.config, request); // what cannot run is refused before anything is built for it
  const rootfs = await buildRootfs(core, image, options);
  context.resolved = { image, rootfs, kernel: { key: kernel.key, name: kernel.name } };
  return { image: image.reference, imageDigest: image.image.manifestDigest };
};

/** The name, the slot and the disk are this VM's from here on. */
const reserve = async (context: CreateContext): Promise<void> => {
  const { core, input } = context;
  if (core.vms.get(input.id) !== null) return;
  if (context.resolved === null) await resolve(context);
  if (context.resolved === null) throw new KilnError("INTERNAL", "a VM is to be reserved and nothing was resolved");
  const { image, rootfs, kernel } = context.resolved;
  const command = resolveCommand(image.image.config, input.request);
  core.vms.reserve(
    {
      ...identity(input),
      ...run(command, input.request),
      image: image.reference,
      imageDigest: image.image.manifestDigest,
      ...{ rootfsKey: rootfs.key, rootfsDigest: rootfs.digest, kernelKey: kernel.key, kernelName: kernel.name },
      network: { mode: input.request.network, mac: input.request.network === "none" ? null : mintMac(core) },
      createdAt: input.createdAt,
      ports: distinctPorts(input.request.ports.map(toPublishedPort)),
      ...NEVER_RAN,
      driver: core.driver.name,
    },
    core.capacity,
  );
};

export const CREATE_SAGA: Saga<CreateContext> = {
  name: "vm.create",
  onFailure: "undo",
  steps: [
    { name: "resolve", run: resolve },
    { name: "reserve", run: reserve, undo: ({ core, input }) => removeVm(core, input.id, { force: true }) },
  ],
};

/** Said before anything is fetched. */
const requireOwnPlatform = (core: Core, request: CreateVm, wanted: Platform | null): void => {
  if (wanted === null || suits(core.platform, wanted)) return;
  throw new KilnError(
    "IMAGE_PLATFORM_MISSING",
    `${request.image} is wanted for ${platformText(wanted)}, and guests here are ${platformText(core.platform)}`,
    { object: request.image, hint: "leave out --platform" },
  );
};

const identity = ({ id, machineId, request }: CreateInput) => ({
  ...{ id, machineId, name: request.name },
  state: "created" as const,
  hostname: request.hostname ?? request.name,
  labels: request.labels,
  autoRemove: request.autoRemove,
  isBuilder: false,
});

const run = (command: ResolvedCommand, request: CreateVm) => ({
  command: command.argv === null ? null : [...command.argv],
  env: [...command.env],
  workingDir: command.workingDir,
  user: command.user,
  stopSignal: command.stopSignal,
  tty: request.tty,
  stdin: request.stdin,
  startMode: request.startMode,
  cpus: request.cpus ?? DEFAULTS.cpus,
  memoryBytes: request.memoryBytes ?? DEFAULTS.memoryBytes,
  diskBytes: request.diskBytes ?? DEFAULTS.diskBytes,
});

const NEVER_RAN = { epoch: 0, bootId: null, ...NO_RUN, operation: null } satisfies Partial<VmRecord>;

/** Runs both; when one fails the other is told to leave and awaited before the failure is thrown. */
const allOrNone = async <One, Two>(
  outer: AbortSignal,
  start: (signal: AbortSignal) => [Promise<One>, Promise<Two>],
): Promise<[One, Two]> => {
  const abort = new AbortController();
  const pair = start(AbortSignal.any([outer, abort.signal]));
  try {
    return await Promise.all(pair);
  } catch (error) {
    abort.abort(error);
    await Promise.allSettled(pair);
    throw error;
  }
};
