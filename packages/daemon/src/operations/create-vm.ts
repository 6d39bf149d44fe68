import { type Platform, platformText } from "@kiln/formats/oci";
import { type CreateVm, DEFAULTS, KilnError, type OperationView, type RegistryCredentials, type VmId } from "@kiln/protocol";
import { randomHex } from "@kiln/std";
import { type ResolvedCommand, resolveCommand } from "../images/command.ts";
import { suits } from "../images/host-platform.ts";
import type { VmRecord } from "../vms/record.ts";
import { type Core, nowIso } from "./core.ts";
import { buildRootfs, type CallerFacts, fetchImage, followWork, sourceRequest } from "./images.ts";
import { proposeName } from "./names.ts";
import type { OperationContext } from "./operation.ts";
import { removeVm } from "./remove-vm.ts";
import { startOrRemove } from "./start-vm.ts";

const VM_ID_BYTES = 6;
const MACHINE_ID_BYTES = 16;

/** create = resolve, reserve, start. Nothing is held while images and kernels are made; the reservation is one transaction. */
export const beginCreateVm = (core: Core, request: CreateVm, { idempotencyKey, credentials }: CallerFacts): OperationView => {
  const name = request.name ?? proposeName(core.random);
  return core.operations.begin(
    { kind: "vm.create", key: name, subject: name },
    async (context) => {
      const record = await createVm(core, { ...request, name, credentials }, context);
      if (request.start) await startOrUndo(core, record, context);
      return record.id;
    },
    idempotencyKey === null ? null : { key: idempotencyKey, request },
  );
};

type NamedCreate = CreateVm & { name: string; credentials: RegistryCredentials };

const createVm = async (core: Core, request: NamedCreate, context: OperationContext): Promise<VmRecord> => {
  const from = sourceRequest(request, request.credentials);
  requireOwnPlatform(core, request, from.platform);
  context.phase("resolve");
  using lease = core.leases.begin();
  const wanted = { ...from, reference: request.image, pull: request.pull, lease };
  const options = { signal: context.signal, onProgress: followWork(context) };
  const [image, kernel] = await allOrNone(context.signal, (signal) => [
    fetchImage(core, wanted, { ...options, signal }),
    core.pipeline.ensureKernel({ ...options, signal }),
  ]);
  const command = resolveCommand(image.image.config, request);
  const rootfs = await buildRootfs(core, image, options);
  context.phase("reserve");
  context.signal.throwIfAborted();
  return core.vms.reserve({
    ...identity(core, request),
    ...run(command, request),
    image: image.reference,
    imageDigest: image.image.manifestDigest,
    rootfsKey: rootfs.key,
    rootfsDigest: rootfs.digest,
    kernelKey: kernel.key,
    kernelName: kernel.name,
    createdAt: nowIso(core),
    ...NEVER_RAN,
    driver: core.driver.name,
  });
};

/** Said before anything is fetched. */
const requireOwnPlatform = (core: Core, request: NamedCreate, wanted: Platform | null): void => {
  if (wanted === null || suits(core.platform, wanted)) return;
  throw new KilnError(
    "IMAGE_PLATFORM_MISSING",
    `${request.image} is wanted for ${platformText(wanted)}, and guests here are ${platformText(core.platform)}`,
    { object: request.image, hint: "leave out --platform" },
  );
};

const identity = (core: Core, request: CreateVm & { name: string }) => ({
  id: randomHex(core.random, VM_ID_BYTES) as VmId,
  name: request.name,
  state: "created" as const,
  hostname: request.hostname ?? request.name,
  machineId: randomHex(core.random, MACHINE_ID_BYTES),
  labels: request.labels,
  autoRemove: request.autoRemove,
});

const run = (command: ResolvedCommand, request: CreateVm) => ({
  command: command.argv === null ? null : [...command.argv],
  env: [...command.env],
  workingDir: command.workingDir,
  user: command.user,
  stopSignal: command.stopSignal,
  tty: request.tty,
  stdin: request.stdin,
  cpus: request.cpus ?? DEFAULTS.cpus,
  memoryBytes: request.memoryBytes ?? DEFAULTS.memoryBytes,
  diskBytes: request.diskBytes ?? DEFAULTS.diskBytes,
});

const NEVER_RAN = {
  epoch: 0,
  bootId: null,
  startedAt: null,
  finishedAt: null,
  exitCode: null,
  signal: null,
  error: null,
  timings: {},
  vmm: null,
};

/** A create that is cancelled while it starts its VM leaves none. */
const startOrUndo = async (core: Core, record: VmRecord, context: OperationContext): Promise<void> => {
  try {
    await startOrRemove(core, record, context);
  } catch (error) {
    if (context.signal.aborted) await removeVm(core, record.id, { force: true });
    throw error;
  }
};

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
