/** Limits of the drivers, each with its reason. */
export const VMM_LIMITS = {
  /** A reply with the whole console in base64 is 88 KiB; anything much longer is not QMP. */
  qmpLineBytes: 2 ** 20,
  /** QEMU answers its monitor within milliseconds; on a host with 50 boots per core it may take seconds. */
  qmpReplyMs: 30_000,
  /** From spawn to the monitor's greeting: 20 ms alone. */
  greetingMs: 30_000,
  /** The newest bytes of a guest's console that are kept. A power of two: the ring buffer wants one. */
  consoleBytes: 64 * 1024,
  /** The newest words of a VMM that are kept. */
  stderrBytes: 16 * 1024,
  /** A SIGKILLed VMM is gone in milliseconds, unless the host's kernel holds it; then it is better to say so than to wait on. */
  killMs: 30_000,
  /** A guest that has powered off has flushed its disks: what is left to QEMU takes milliseconds. */
  quitMs: 5_000,
  /** A QEMU that gives up says why and ends at once. */
  lastWordsMs: 1_000,
  /** A guest opens its port after 0.3 s under KVM; where KVM does not run guests it never does. */
  probeMs: 4_000,
  /** Between looks at a VMM that is not this daemon's child. */
  adoptedLookMs: 250,
  /** QEMU listens for the next connection a moment after it has lost the last. */
  connectMs: 5_000,
} as const;
