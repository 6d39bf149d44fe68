import type { Core } from "./core.ts";
import { forgiveResumes } from "./resume-operations.ts";

/** Operations that run when the daemon is told to stop get this long to stop where they stand, or to end. */
const DRAIN_MS = 20_000;

/** Operations stop where they stand, and wait for the next daemon. What the API still answers goes on until this returns. */
export const suspendOperations = async (core: Core): Promise<void> => {
  core.operations.suspendAll();
  const patience = new AbortController();
  const drained = core.operations.drain().then(() => true);
  const late = core.clock.sleep(DRAIN_MS, { signal: patience.signal }).then(
    () => false,
    () => false,
  );
  if (!(await Promise.race([drained, late]))) core.journal.warn({}, "operations were still running when the daemon ended");
  patience.abort();
  forgiveResumes(core);
};
