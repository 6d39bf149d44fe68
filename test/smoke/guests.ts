/** What the scenarios' VMs are made of: one image, and one shape whose snapshot is there. */
export const IMAGE = "deb:busybox-static";
/** The smallest. */
export const MEMORY = "128m";
export const MEMORY_BYTES = 128 * 2 ** 20;

/** The image and shape of a VM, with what stands before its command. */
export const guest = (...flags: readonly string[]): readonly string[] => ["-m", MEMORY, ...flags, IMAGE, "--"];

/** A line for the guest's shell. */
export const shell = (script: string): readonly string[] => ["busybox", "sh", "-c", script];

/** A command that goes on until it is told to stop, and then stops at once. */
export const SLEEP = shell("trap 'exit 0' TERM; busybox sleep 1000000 & wait");
