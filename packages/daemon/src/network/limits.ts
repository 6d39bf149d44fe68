export const NETWORK_LIMITS = {
  /** unshare(1), a dozen routes and their answer: 20 ms here; the rest is for a host that swaps. */
  holderMs: 15_000,
  /** pasta fills its tables, 20 MB, before it makes its interface: 30 ms here. */
  uplinkMs: 15_000,
  /** How often the interface is looked for meanwhile. */
  lookMs: 2,
  /** One call of ip(8). */
  toolMs: 15_000,
  /** How often a daemon looks whether the uplink lives and the host's addresses are the same. A guest's TCP waits a second before it tries again. */
  watchMs: 1_000,
  /** After a repair that failed: what is missing seldom comes back at once. */
  repairPauseMs: 5_000,
  /** Of what a process says on its stderr. */
  stderrBytes: 4_096,
  /** glibc reads three (MAXNS in resolv.h). */
  resolvers: 3,
  /** Of a host's resolv.conf; a person's has some lines. */
  resolvConfBytes: 16_384,
} as const;
