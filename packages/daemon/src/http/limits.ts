/** Limits of the API, each with its reason. */
export const HTTP_LIMITS = {
  /** An answer that is longer is not kept for a repeat: only a prune's is, and a prune may be done again. */
  keptAnswerLength: 2 ** 16,
  /** Of a kept answer that is sent at once: enough for few turns, little enough that others get theirs in between. */
  pieceBytes: 256 * 1024,
} as const;
