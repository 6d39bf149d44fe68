/** Limits of the use cases, each with its reason. */
export const OPERATION_LIMITS = {
  /** Events read from the journal at once: all that is kept in memory for a client, however slow it is. */
  eventBatch: 256,
  /** Between signs of life of a quiet stream of events: proxies end what is silent for half a minute. */
  eventKeepAliveMs: 15_000,
  /** Between two views of an operation of which only the progress or the place in a queue has changed: terminals redraw no faster. */
  watchMs: 100,
  /** The newest events that an explanation brings along. */
  explainedEvents: 50,
  /** A restore answers within half a second, and within seconds beside fifty others; one that does not makes way for a cold boot. */
  restoreMs: 20_000,
  /** From a claim to the guest that takes the place of the claimed one. */
  refillDelayMs: 1_000,
  /** Setup and two commands in a guest that has translated nothing yet take a second; beside fifty boots, many. */
  rehearsalMs: 60_000,
  /** Between two attempts to build a pre-boot snapshot that could not be built. */
  prebootRetryMs: 600_000,
  /** What is kept of the output of an image's commands: a screen or two, and enough for what comes between two looks at it. */
  outputLines: 200,
  /** Letters of such a line: the lines that are kept are 80 KB. */
  outputLineLength: 400,
  /** Between two times that it is told. */
  outputMs: 100,
  /** What the error of a command that failed brings along of its output. */
  failedOutputLines: 20,
  /** Letters of a command in a message. */
  shownCommand: 200,
  /** A builder VM whose channel is lost has ended within that, or lives; and so long its agent has to end it. */
  builderEndMs: 5_000,
  /** Free ports that the host offers and another VM has been promised: so many in a row mean that there is none. */
  portAttempts: 8,
  /** Of a scrub's artifacts, what its operation's record keeps: some hundred bytes each. */
  reportedArtifacts: 4096,
  /** Between looks for VMs that were left on their way: rare, and a look is a walk over records that are in memory. */
  healMs: 15_000,
  /** Between two attempts to write down the ends of operations that a full disk did not take. */
  unwrittenMs: 500,
  /** Ids of ended commands that are remembered for each VM, some hundred KB: a client that asks again does so within seconds. */
  forgottenExecs: 4096,
} as const;
