/** Where the VMMs of the pool live before a VM has claimed them. */
export interface PoolDirectories {
  /** A directory of its own, mode 0700, and in it a small empty disk to rehearse with; both or neither. */
  make(entry: string, options: { signal: AbortSignal }): Promise<{ readonly directory: string; readonly scratchDisk: string }>;
  /** Idempotent. */
  remove(directory: string): Promise<void>;
  /** All that are there. */
  list(): Promise<readonly string[]>;
}
