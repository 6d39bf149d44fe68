import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import { KilnError } from "@kiln/protocol/errors";
import { CHECK_LIMITS } from "./limits.ts";
import type { CheckedImage, CheckFailure, CheckJob, CheckMessage } from "./messages.ts";

export interface InspectOptions {
  readonly signal: AbortSignal;
  /** Bytes of the file that were hashed. */
  readonly onProgress: (done: number) => void;
}

/**
 * Hashes an ext4 file and reads all of it that a guest's kernel could, in a thread of its own, which has ended when this returns.
 * `reference` is whose it is, for messages. Throws KilnError ROOTFS_INVALID, ROOTFS_TOO_LARGE.
 */
export const inspectImage = async (path: string, reference: string, { signal, onProgress }: InspectOptions): Promise<CheckedImage> => {
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  const job: CheckJob = { fd: file.fd, sizeBytes: (await file.stat()).size };
  signal.throwIfAborted();
  const worker = new Worker(new URL("./worker.ts", import.meta.url), {
    ...{ name: "ext4-image", workerData: job, execArgv: [], resourceLimits: { maxOldGenerationSizeMb: CHECK_LIMITS.heapMiB } },
  });
  const ended = Promise.withResolvers<void>();
  const outcome: { message: Exclude<CheckMessage, { type: "progress" }> | null; crash: Error | null } = { message: null, crash: null };
  worker.on("message", (message: CheckMessage) => {
    if (message.type === "progress") onProgress(message.done);
    else outcome.message = message;
  });
  worker.on("error", (error: Error) => (outcome.crash = error));
  worker.on("exit", () => ended.resolve());
  const stop = (): void => void worker.terminate();
  signal.addEventListener("abort", stop, { once: true });
  await ended.promise;
  signal.removeEventListener("abort", stop);
  signal.throwIfAborted();
  const { message, crash } = outcome;
  if (message?.type === "checked") return message.image;
  if (message?.type === "failed") throw toKilnError(message.failure, reference);
  if (crash !== null && "code" in crash && crash.code === "ERR_WORKER_OUT_OF_MEMORY")
    throw new KilnError("ROOTFS_TOO_LARGE", `the file system of ${reference} has more entries than memory holds`, { object: reference });
  throw new KilnError("INTERNAL", `the thread that checks the file system of ${reference} ended before its work`, { cause: crash });
};

const toKilnError = ({ kind, message, hint }: CheckFailure, reference: string): KilnError => {
  const about = { object: reference, ...(hint === null ? {} : { hint }) };
  if (kind === "image") return new KilnError("ROOTFS_INVALID", `${reference} cannot be booted from: ${message}`, about);
  if (kind === "too-large") return new KilnError("ROOTFS_TOO_LARGE", `the file system of ${reference} is too large: ${message}`, about);
  return new KilnError("INTERNAL", `checking the file system of ${reference} failed: ${message}`, about);
};
