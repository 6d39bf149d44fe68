/** Every limit of the smoke harness, with its reason. */

/** A scenario takes seconds on a quiet machine; on one that is loaded twentyfold it still ends. */
export const DEADLINE_MS = 240_000;

/** What a scenario may still do when its time is over: its commands are killed then, and a clean end takes a moment. */
export const GRACE_MS = 10_000;

/** Asking a home what it knows of a failure, and removing what a scenario made: its VMs are stopped with it. */
export const CLEANUP_MS = 60_000;

/** Enough to see a guest's panic or a stack. */
export const TAIL_LINES = 40;

/** Of each command that a scenario ran, in its report. */
export const OUTPUT_CHARACTERS = 2_000;

/** Operations in the report of a failure: its own, the newest first. */
export const OPERATIONS_SHOWN = 12;

/** Scenarios at once: beyond it CPUs and memory are the limit on any machine. */
export const JOBS_MAX = 64;
