import { KilnError, type OperationView, type VmId } from "@kiln/protocol";
import { type Core } from "./core.ts";
import { getVm } from "./find-vm.ts";
import { powerOff } from "./follow-run.ts";
import type { OperationContext } from "./operation.ts";
import type { RunningVm } from "./running-vms.ts";

const KILL_MS = 5_000;

export const beginStopVm = (
  core: Core,
  reference: string,
  options: { timeoutMs: number; idempotencyKey: string | null },
): OperationView => {
  const { timeoutMs, idempotencyKey } = options;
  const idempotency = idempotencyKey === null ? null : { key: idempotencyKey, request: { vm: reference, timeoutMs } };
  const known = core.operations.recall("vm.stop", idempotency);
  if (known !== null) return known;
  const record = getVm(core.vms, reference);
  return core.operations.begin(
    { kind: "vm.stop", key: record.id, subject: record.name },
    async (context) => {
      await stopVm(core, record.id, { timeoutMs, context });
      return record.id;
    },
    idempotency,
  );
};

/** The stop signal, then SIGKILL after the timeout; then the guest's disks are synced and it powers off. A VM that does not run is left as it is. */
const stopVm = async (core: Core, id: VmId, options: { timeoutMs: number; context: OperationContext }): Promise<void> => {
  const { context, timeoutMs } = options;
  using _lock = await core.vmLocks.acquire(id, { signal: context.signal });
  const run = core.running.get(id);
  const record = core.vms.get(id);
  if (run === null || record === null) return;
  context.phase("stop");
  run.ending ??= "stop";
  if (record.state === "paused") await run.vmm.resume({ signal: context.signal });
  if (run.main === null) await powerOff(core, run);
  else await endCommand(core, run, { stopSignal: record.stopSignal, timeoutMs });
  await run.finished.promise;
};

const endCommand = async (core: Core, run: RunningVm, options: { stopSignal: string; timeoutMs: number }): Promise<void> => {
  if (await endsAfter(core, run, { name: options.stopSignal, ms: options.timeoutMs })) return;
  if (await endsAfter(core, run, { name: "SIGKILL", ms: KILL_MS })) return;
  await powerOff(core, run);
};

/** Sends a signal to the command; whether it ended within `ms`. Its follower then powers the guest off. */
const endsAfter = async (core: Core, run: RunningVm, signal: { name: string; ms: number }): Promise<boolean> => {
  try {
    await run.main?.sendSignal(signal.name);
  } catch (error) {
    core.journal.warn({ vm: run.id, signal: signal.name, error: String(error) }, "a signal did not reach the guest");
  }
  const timer = new AbortController();
  const timedOut = core.clock.sleep(signal.ms, { signal: timer.signal }).then(
    () => false,
    () => false,
  );
  const ended = Promise.race([run.commandExited.promise, run.finished.promise]).then(() => true);
  const result = await Promise.race([ended, timedOut]);
  timer.abort();
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
