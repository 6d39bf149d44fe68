/** The SDK's own limits, each with its reason. */
export const SDK_LIMITS = {
  /** The largest JSON answer: some ten thousand VMs with full records. */
  answerBytes: 64 * 2 ** 20,
  /** Tries of a call that got no answer; with the pauses below they span about two seconds, a daemon's restart. */
  callAttempts: 6,
  callBaseMs: 50,
  callMaxMs: 1_000,
  /** Output that waits for its reader in this process before the socket is no longer read. */
  sessionBufferBytes: 2 ** 20,
  /** An acknowledgement is sent after this much output was consumed, or when nothing waits. */
  ackEveryBytes: 2 ** 16,
  /** How long a session's first connection is tried, as long as a call. */
  firstPatienceMs: 2_000,
  /** How long a session that was broken off tries to come back: a daemon's upgrade. */
  sessionPatienceMs: 60_000,
  sessionRetryBaseMs: 50,
  sessionRetryMaxMs: 1_000,
  /** A frame of a log stream: the daemon's frames are far smaller. */
  frameBytes: 16 * 2 ** 20,
  /** Blobs sent at once: one is read from disk while the other is verified by the daemon. */
  blobsInParallel: 2,
} as const;
