/** A file or directory of the home, measured. */
export interface Measured {
  readonly path: string;
  /** Apparent size. */
  readonly bytes: number;
  /** Allocated blocks, those of directories included. */
  readonly diskBytes: number;
}

/** What lies in the home, as the file system says: each file in one of the lists. */
export interface HomeUsage {
  content(): Promise<readonly (Measured & { digest: string })[]>;
  rootfs(): Promise<readonly (Measured & { key: string })[]>;
  kernels(): Promise<readonly (Measured & { key: string })[]>;
  preboots(): Promise<readonly (Measured & { key: string })[]>;
  vms(): Promise<readonly (Measured & { id: string })[]>;
  /** The database, logs, caches, and the directories themselves. */
  other(): Promise<readonly (Measured & { name: string })[]>;
  staging(): Promise<readonly string[]>;
  /** Those of the paths that are there now. */
  existing(paths: readonly string[]): Promise<readonly string[]>;
  /** What the home's file system has left for this user. */
  freeBytes(): Promise<number>;
}
