import { constants } from "node:fs";
import { open, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { Worker } from "node:worker_threads";
import { KilnError, asKilnError } from "@kiln/protocol/errors";
import type { LayerSource } from "./layer-stream.ts";
import { ROOTFS_LIMITS, WORKER_HEAP } from "./limits.ts";
import type { RootfsLimits } from "./limits.ts";
import type { BuildFailure, BuildJob, BuildMessage, BuiltRootfs } from "./messages.ts";

export interface BuildRootfsRequest {
  /** Bottom to top. None at all gives an empty root directory. */
  readonly layers: readonly LayerSource[];
  /** Staging file: created, or taken over where it is there and empty. */
  readonly target: string;
  /** The rootfs key: UUID and hash seed derive from it. */
  readonly key: string;
  /** Each defaults to ROOTFS_LIMITS. */
  readonly limits?: Partial<RootfsLimits>;
}

export interface BuildRootfsOptions {
  readonly signal: AbortSignal;
  /** Compressed bytes read, of all layers. */
  readonly onProgress?: (progress: { done: number; total: number; unit: "bytes" }) => void;
}

const openTarget = async (path: string): Promise<FileHandle> => {
  await using unusable = new AsyncDisposableStack();
  const file = unusable.use(await inKilnsWords(() => open(path, constants.O_RDWR | constants.O_CREAT, 0o600)));
  const { size } = await inKilnsWords(() => file.stat());
  if (size > 0) throw new KilnError("INTERNAL", `the staging file ${path} is not empty`, { object: path });
  unusable.move();
  return file;
};

/** What a system call throws as a KilnError: DISK_FULL where it says so. */
const inKilnsWords = async <T>(call: () => Promise<T>): Promise<T> => {
  try {
    return await call();
  } catch (error) {
    throw asKilnError(error);
  }
};

/** No room, or none within the quota. */
const NO_ROOM: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT"]);

const toKilnError = (failure: BuildFailure): KilnError => {
  const cause = Object.assign(new Error(failure.message), { name: failure.name, ...(failure.code === null ? {} : { code: failure.code }) });
  const subject = failure.layer === null ? "the rootfs" : `the layer ${failure.layer}`;
  const become = failure.layer === null ? "the layers cannot become a rootfs" : `${subject} cannot become part of a rootfs`;
  const options = { cause, ...(failure.layer === null ? {} : { object: failure.layer }) };
  switch (failure.kind) {
    case "layer":
      return new KilnError("LAYER_INVALID", `${become}: ${failure.message}`, options);
    case "too-large":
      return new KilnError("ROOTFS_TOO_LARGE", `the rootfs is too large: ${failure.message}`, options);
    case "system":
      if (failure.code === "ENOENT") return new KilnError("IMAGE_CONTENT_MISSING", `${subject} is not in the content store`, options);
      if (failure.code !== null && NO_ROOM.has(failure.code))
        return new KilnError("DISK_FULL", `there is no room for the rootfs: ${failure.message}`, options);
      return asKilnError(cause);
    case "defect":
      return new KilnError("INTERNAL", `building ${subject} failed: ${failure.message}`, options);
  }
};

interface Thread {
  /** Settles when the thread has ended. */
  readonly result: Promise<BuiltRootfs>;
  terminate(): Promise<unknown>;
}

const startThread = (job: BuildJob, events: { onProgress: (done: number, total: number) => void; onWritten: () => void }): Thread => {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), {
    name: "rootfs",
    workerData: job,
    execArgv: [],
    resourceLimits: WORKER_HEAP,
  });
  const { promise, resolve, reject } = Promise.withResolvers<BuiltRootfs>();
  let outcome: Extract<BuildMessage, { type: "built" | "failed" }> | null = null;
  let crash: Error | null = null;
  worker.on("message", (message: BuildMessage) => {
    if (message.type === "progress") events.onProgress(message.done, message.total);
    else if (message.type === "written") events.onWritten();
    else outcome = message;
  });
  worker.on("error", (error: Error) => {
    crash = error;
  });
  worker.on("exit", (exitCode) => {
    if (outcome?.type === "built") resolve(outcome.rootfs);
    else if (outcome?.type === "failed") reject(toKilnError(outcome.failure));
    else reject(describeCrash(crash, exitCode));
  });
  return { result: promise, terminate: () => worker.terminate() };
};

const describeCrash = (crash: Error | null, exitCode: number): KilnError => {
  if (crash !== null && "code" in crash && crash.code === "ERR_WORKER_OUT_OF_MEMORY") {
    return new KilnError("ROOTFS_TOO_LARGE", `the layers have more entries than ${WORKER_HEAP.maxOldGenerationSizeMb} MiB of memory hold`, {
      cause: crash,
    });
  }
  return new KilnError("INTERNAL", `the thread that builds the rootfs ended with ${exitCode}`, { cause: crash });
};

/**
 * Builds the ext4 image of an image's layers in a thread of its own. The file is mode 0444 and synced when this returns; the same layers
 * and key give the same bytes, whatever the layers were compressed with. Each layer is checked against its diff id while it is read.
 * On failure or abort the thread has ended and the file is gone.
 * Throws KilnError LAYER_INVALID, ROOTFS_TOO_LARGE, IMAGE_CONTENT_MISSING, DISK_FULL, CANCELLED.
 */
export const buildRootfs = async (request: BuildRootfsRequest, options: BuildRootfsOptions): Promise<BuiltRootfs> => {
  const { signal } = options;
  const throwIfAborted = (): void => {
    if (signal.aborted) throw new KilnError("CANCELLED", "building the rootfs was cancelled", { cause: signal.reason });
  };
  throwIfAborted();
  await using undo = new AsyncDisposableStack();
  const file = await openTarget(request.target);
  undo.defer(() => rm(request.target, { force: true }));
  await using _open = file;
  let synced: Promise<readonly PromiseSettledResult<void>[]> = Promise.resolve([]);
  const directory = dirname(request.target);
  const job = { fd: file.fd, directory, layers: request.layers, key: request.key, limits: { ...ROOTFS_LIMITS, ...request.limits } };
  const thread = startThread(job, {
    onProgress: (done, total) => options.onProgress?.({ done, total, unit: "bytes" }),
    // it may fail long before the thread has ended, and somebody has to be there to hear of it
    onWritten: () => {
      synced = Promise.allSettled([file.sync()]);
    },
  });
  const stop = (): void => void thread.terminate();
  signal.addEventListener("abort", stop, { once: true });
  try {
    const [built] = await Promise.allSettled([thread.result]);
    const [sync] = await synced;
    throwIfAborted();
    if (built.status === "rejected") throw built.reason;
    if (sync?.status === "rejected") throw asKilnError(sync.reason);
    await inKilnsWords(() => file.chmod(0o444));
    await inKilnsWords(() => file.sync());
    undo.move();
    return built.value;
  } finally {
    signal.removeEventListener("abort", stop);
  }
};
