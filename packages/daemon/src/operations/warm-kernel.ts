import { DEFAULTS, KilnError, type OperationView, type WarmKernel } from "@kiln/protocol";
import { describeShape, type Preboots } from "../pipeline/preboots.ts";
import type { Core } from "./core.ts";
import { type CallerFacts, workFor } from "./images.ts";
import type { OperationContext } from "./operation.ts";
import { runSaga, type Saga, type SagaRecord } from "./saga/saga.ts";

/** What has to be there for VMs of this shape to start from a snapshot. */
interface WarmInput {
  readonly cpus: number;
  readonly memoryBytes: number;
}

export interface WarmContext {
  readonly core: Core;
  readonly input: WarmInput;
  readonly operation: OperationContext;
  /** The snapshot's key, once it is there. */
  key: string | null;
}

/** Kernel set and pre-boot snapshot ahead of the first VM that wants them; the work is shared with every start that wants the same. */
export const beginWarmKernel = (
  core: Core,
  request: WarmKernel,
  { idempotencyKey, caller }: Omit<CallerFacts, "credentials">,
): OperationView => {
  const input = { cpus: request.cpus ?? DEFAULTS.cpus, memoryBytes: request.memoryBytes ?? DEFAULTS.memoryBytes };
  requirePreboots(core);
  requireRoomFor(core, input);
  const subject = describeShape(input);
  return core.operations.beginSaga(
    {
      spec: { kind: "kernel.warm", key: subject, subject, caller },
      idempotency: idempotencyKey === null ? null : { key: idempotencyKey, request },
      saga: { name: WARM_SAGA.name, input },
    },
    (operation, saga) => continueWarm(core, saga, operation),
  );
};

export const continueWarm = async (core: Core, saga: SagaRecord, operation: OperationContext): Promise<string | null> => {
  const context: WarmContext = { core, input: saga.input as WarmInput, operation, key: null };
  const { signal } = operation;
  const onStep = (name: string): void => operation.phase(name);
  await runSaga(WARM_SAGA, { context, record: saga, log: core.sagas, signal, onStep, checkpoint: core.checkpoint });
  return context.key;
};

const warm = async (context: WarmContext): Promise<void> => {
  const { core, input, operation } = context;
  const preboots = requirePreboots(core);
  const options = workFor(operation);
  const { key: kernelKey } = await core.pipeline.ensureKernel(options);
  const kernel = await core.kernelSets.open(kernelKey);
  const record = await preboots.ensure({ ...input, kernelKey, kernel }, options);
  preboots.sweep((key) => core.kernels.getKernel(key) !== null);
  context.key = record.key;
};

/** What it makes is a function of its key: a failure leaves nothing to take back, and whoever asks again goes on where it stopped. */
export const WARM_SAGA: Saga<WarmContext> = {
  name: "kernel.warm",
  onFailure: "carry on",
  steps: [{ name: "snapshot", run: warm, resume: warm }],
};

const requirePreboots = ({ preboots }: Core): Preboots => {
  if (preboots !== null) return preboots;
  throw new KilnError("USAGE", "no pre-boot snapshot can be made: they are switched off", {
    hint: "start the daemon with KILN_PREBOOT=on",
  });
};

/** As for a VM: what never fits is refused at once. */
const requireRoomFor = ({ capacity }: Core, input: WarmInput): void => {
  if (input.memoryBytes <= capacity.memoryBytes && input.cpus <= capacity.cpus) return;
  const subject = describeShape(input);
  throw new KilnError("CAPACITY_EXCEEDED", `no VM of ${subject} fits here: there are ${describeShape(capacity)} for all`, {
    ...{ object: subject, hint: "ask for less" },
  });
};
