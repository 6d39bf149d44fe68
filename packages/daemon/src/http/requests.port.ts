/** A request that was begun under a key. */
export interface StoredRequest {
  readonly fingerprint: string;
  /** JSON; null: it was begun and has not been answered. */
  readonly answer: string | null;
}

/** Requests by their idempotency keys, for a window of time and up to a number of them. Synchronous. */
export interface RequestStore {
  find(key: string, options: { nowMs: number }): StoredRequest | null;
  begin(key: string, request: { fingerprint: string; nowMs: number }): void;
  answer(key: string, answer: string): void;
  forget(key: string): void;
}
