/** Limits of what is kept in the database, each with its reason. */
export const STORE_LIMITS = {
  /**
   * Taken on the disk ahead, once in the file and twice in its log: that has to hold the thousand pages after which SQLite begins it
   * anew, and the last write's beside.
   */
  spareBytes: 2_304 << 10,
  /** Stretches of the journal that are kept until the next event, for others who ask for the same: most ask for the newest. */
  eventBatches: 8,
  /** Some seven hundred runs of a VM, or a day of a busy home: 4 MB, and a client that was away reads it in a blink. */
  events: 10_000,
  /** Between looks at what is too old: a write in so many pays for all of them. */
  trimEvery: 256,
  /** How long an idempotency key means its request: whoever tries again after a day means it anew. */
  keyWindowMs: 24 * 3_600_000,
  /** Requests that are kept with their answers: at some hundred bytes each, a few megabytes. */
  keptRequests: 10_000,
  /** Results of commands that are remembered; one that is forgotten is made again. */
  customizations: 1_000,
  /** An error's words in an event; a panic brings its whole console along. */
  eventTextLength: 2_000,
} as const;
