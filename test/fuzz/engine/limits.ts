export const FUZZ_LIMITS = {
  /** CPU time of one input of some KiB, which is parsed in far less than a millisecond; a collection of garbage may come on top. */
  slowMs: 2000,
  /** CPU time of one input before its process is killed. */
  hangCpuMs: 4_000,
  /** The same by the clock, for what waits for ever. */
  hangMs: 60_000,
  /** Resident memory of a process under fuzz: V8 and the corpus take some 150 MiB. */
  memoryBytes: 768 * 2 ** 20,
  /** JavaScript heap, so that garbage does not look like a leak. */
  heapMib: 256,
  /** How often the watchdog looks. */
  watchMs: 200,
  /** Different findings of one run, after which it ends. */
  findings: 8,
  /** Runs that minimising one finding may take. */
  minimiseRuns: 3000,
  /** One input in so many is shown to the oracles that cost milliseconds. */
  thoroughOnce: 256,
  /** Inputs of a run that are looked at for keeping, the shortest first. */
  grownInputs: 200,
  /** Inputs of one corpus that a run keeps. */
  corpusInputs: 5000,
} as const;
