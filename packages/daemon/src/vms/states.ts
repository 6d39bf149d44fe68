import type { VmState } from "@kiln/protocol";

/** States in which a VMM process may exist. */
export const LIVE_STATES: ReadonlySet<VmState> = new Set(["starting", "running", "paused", "stopping"]);
/** States from which a start is possible. */
export const STARTABLE_STATES: ReadonlySet<VmState> = new Set(["created", "exited", "failed"]);
