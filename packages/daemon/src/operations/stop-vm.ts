import { KilnError, type OperationView, type VmId } from "@kiln/protocol";
import { abortable } from "@kiln/std";
import { type Core } from "./core.ts";
import { getVm } from "./find-vm.ts";
import { powerOff } from "./follow-run.ts";
import type { OperationContext } from "./operation.ts";
import type { RunningVm } from "./running-vms.ts";
import { runSaga, type Saga, type SagaRecord } from "./saga/saga.ts";

const KILL_MS = 5_000;

export const beginStopVm = (
  core: Core,
  reference: string,
  options: { timeoutMs: number; idempotencyKey: string | null; caller: string },
): OperationView => {
  const { timeoutMs, idempotencyKey, caller } = options;
  const idempotency = idempotencyKey === null ? null : { key: idempotencyKey, request: { vm: reference, timeoutMs } };
  const known = core.operations.recall("vm.stop", idempotency);
  if (known !== null) return known;
  const record = getVm(core.vms, reference);
  const { id, name } = record;
  return core.operations.beginSaga(
    {
      spec: { kind: "vm.stop", key: id, subject: name, caller },
      idempotency,
      saga: { name: STOP_SAGA.name, input: { vm: id, timeoutMs } },
    },
    (context, saga) => continueStop(core, saga, context),
  );
};

export interface StopContext {
  readonly core: Core;
  readonly id: VmId;
  readonly timeoutMs: number;
  readonly operation: OperationContext;
}

/** A daemon that takes a stop up again asks again, with all of the time. */
export const continueStop = async (core: Core, saga: SagaRecord, operation: OperationContext): Promise<string> => {
  const { vm, timeoutMs } = saga.input as { vm: VmId; timeoutMs: number };
  const { signal } = operation;
  using _lock = await core.vmLocks.acquire(vm, { signal });
  const context: StopContext = { core, id: vm, timeoutMs, operation };
  const onStep = (name: string): void => operation.phase(name);
  await runSaga(STOP_SAGA, { context, record: saga, log: core.sagas, signal, onStep, checkpoint: core.checkpoint });
  return vm;
};

/** The stop signal, then SIGKILL after the timeout; then the guest's disks are synced and it powers off. A VM that does not run is left as it is. */
export const stopNow = async ({ core, id, timeoutMs, operation }: StopContext): Promise<void> => {
  const run = core.running.get(id);
  const record = core.vms.get(id);
  if (run === null || record === null) return;
  const isFirst = run.ending === null;
  run.ending ??= "stop";
  try {
    if (record.state === "paused") await run.vmm.resume({ signal: operation.signal });
    if (run.main === null) await powerOff(core, run);
    else await endCommand(core, run, { stopSignal: record.stopSignal, timeoutMs, signal: operation.signal });
    await abortable(run.finished.promise, operation.signal);
  } catch (error) {
    // whatever ends it from now on is not this stop
    if (isFirst) run.ending = null;
    throw error;
  }
};

/** A guest that was asked to end is not asked to go on: there is nothing to take back, and a cancel only stops the waiting and the killing. */
export const STOP_SAGA: Saga<StopContext> = { name: "vm.stop", onFailure: "carry on", steps: [{ name: "stop", run: stopNow }] };

const endCommand = async (
  core: Core,
  run: RunningVm,
  options: { stopSignal: string; timeoutMs: number; signal: AbortSignal },
): Promise<void> => {
  const { stopSignal, timeoutMs, signal } = options;
  if (await endsAfter(core, run, { name: stopSignal, ms: timeoutMs, signal })) return;
  if (await endsAfter(core, run, { name: "SIGKILL", ms: KILL_MS, signal })) return;
  await powerOff(core, run);
};

/** Sends a signal to the command; whether it ended within `ms`. Its follower then powers the guest off. Throws when the caller leaves. */
const endsAfter = async (core: Core, run: RunningVm, send: { name: string; ms: number; signal: AbortSignal }): Promise<boolean> => {
  send.signal.throwIfAborted();
  try {
    await run.main?.sendSignal(send.name);
  } catch (error) {
    core.journal.warn({ vm: run.id, signal: send.name, error: String(error) }, "a signal did not reach the guest");
  }
  const timer = new AbortController();
  const timedOut = core.clock.sleep(send.ms, { signal: AbortSignal.any([timer.signal, send.signal]) }).then(
    () => false,
    () => false,
  );
  const ended = Promise.race([run.commandExited.promise, run.finished.promise]).then(() => true);
  const result = await Promise.race([ended, timedOut]);
  timer.abort();
  if (!result) send.signal.throwIfAborted();
  return result;
};

/** SIGKILL ends the VM at once, as if its power were cut; any other signal goes to its command. Throws VM_NOT_RUNNING. */
export const killVm = async (core: Core, reference: string, signal: string): Promise<void> => {
  const record = getVm(core.vms, reference);
  const run = core.running.get(record.id);
  if (run === null) throw new KilnError("VM_NOT_RUNNING", `the VM ${record.name} is ${record.state}, not running`, { object: record.name });
  if (signal === "SIGKILL" || signal === "KILL" || signal === "9") {
    run.ending = "kill";
    await run.vmm.kill();
    await run.finished.promise;
    return;
  }
  if (run.main === null)
    throw new KilnError("VM_NO_COMMAND", `the idle VM ${record.name} has no command to send ${signal} to`, { object: record.name });
  await run.main.sendSignal(signal.startsWith("SIG") ? signal : `SIG${signal}`);
};
