import { KilnError } from "@kiln/protocol";

/**
 * Why an operation stops when its daemon ends in order: it is neither cancelled nor failed. What its saga has done so
 * far stays, and the next daemon goes on with it under its id.
 */
export const SUSPENSION = new KilnError("INTERRUPTED", "the daemon ends; the next one goes on with it");

export const isSuspended = (signal: AbortSignal): boolean => signal.aborted && signal.reason === SUSPENSION;
