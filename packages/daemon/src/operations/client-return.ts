import { asKilnError } from "@kiln/protocol";
import { STARTABLE_STATES, type VmRecord } from "../vms/record.ts";
import type { Core } from "./core.ts";
import { removeVm } from "./remove-vm.ts";
import type { RunningVm } from "./running-vms.ts";

/** A client whose daemon has ended comes back to the next one within a second or two, or not at all. */
const RETURN_MS = 5_000;
/** A client that has been told of the end says goodbye at once. */
const GOODBYE_MS = 5_000;

/** Until `done`, the time is over, or the daemon begins to end. */
const patiently = async (core: Core, ms: number, done: Promise<unknown>): Promise<void> => {
  const enough = new AbortController();
  const over = (): void => undefined; // and an abort says that it is no longer waited for
  const patience = core.clock.sleep(ms, { signal: AbortSignal.any([core.stopping, enough.signal]) }).then(over, over);
  await Promise.race([done, patience]);
  enough.abort();
};

/** A VM that goes with its end waits for the client that a daemon's end cut off: it comes back for its output and exit code. */
export const awaitReturn = async (core: Core, run: RunningVm): Promise<void> => {
  const leftMs = run.takenOverMs === null ? 0 : run.takenOverMs + RETURN_MS - core.clock.monotonicMs();
  if (leftMs <= 0 || run.ending !== null || core.vms.get(run.id)?.autoRemove !== true) return;
  await patiently(core, leftMs, run.attached.promise);
};

/** It goes once those who watch its command know how that ended: what a crash takes with the VM, nobody misses. */
export const awaitGoodbyes = (core: Core, run: RunningVm): Promise<void> => patiently(core, GOODBYE_MS, Promise.all(run.clients));

/** The same for one that had ended with the last daemon: whoever waited for its end finds it in the record and the log. */
export const removeAfterReturn = async (core: Core, { id, epoch }: VmRecord): Promise<void> => {
  await patiently(core, RETURN_MS, new Promise(() => undefined));
  if (core.stopping.aborted) return; // the next daemon begins anew
  try {
    await removeVm(core, id, { force: false, onlyIf: (now) => now.epoch === epoch && STARTABLE_STATES.has(now.state) });
  } catch (error) {
    core.journal.error({ vm: id, error: asKilnError(error).message }, "a VM that goes with its end could not be removed");
  }
};
