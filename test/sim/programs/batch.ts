import { Worker } from "node:worker_threads";

/** Seeds from `first` on, every `stride`th, `count` of them. */
export interface Share {
  readonly first: number;
  readonly stride: number;
  readonly count: number;
}

export interface Finding {
  readonly seed: number;
  readonly check: string;
  readonly message: string;
}

export interface BatchResult {
  readonly schedules: number;
  readonly steps: number;
  readonly crashes: number;
  readonly commands: number;
  readonly findings: readonly Finding[];
}

const NOTHING: BatchResult = { schedules: 0, steps: 0, crashes: 0, commands: 0, findings: [] };

/** Runs the programs of so many seeds, in threads. Resolves when all have ended. */
export const runBatch = async ({ first, count, workers }: { first: number; count: number; workers: number }): Promise<BatchResult> => {
  const shares = Array.from({ length: workers }, (_, index) => ({
    first: first + index,
    stride: workers,
    count: Math.ceil((count - index) / workers),
  }));
  const results = await Promise.all(shares.filter((share) => share.count > 0).map(runShare));
  return results.reduce(add, NOTHING);
};

const add = (one: BatchResult, other: BatchResult): BatchResult => ({
  schedules: one.schedules + other.schedules,
  steps: one.steps + other.steps,
  crashes: one.crashes + other.crashes,
  commands: one.commands + other.commands,
  findings: [...one.findings, ...other.findings].toSorted((a, b) => a.seed - b.seed),
});

const runShare = (share: Share): Promise<BatchResult> =>
  new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./worker.ts", import.meta.url), { workerData: share });
    worker.once("message", resolve);
    worker.once("error", reject);
    worker.once("exit", (code) => reject(new Error(`a thread of the simulation ended with ${code} before it was done`)));
  });
