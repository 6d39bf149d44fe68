/** The thread that hashes and checks one image: it starts with a CheckJob, posts CheckMessages, and ends. */
import { createHash } from "node:crypto";
import { readSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { Ext4ReadError } from "@kiln/formats/ext4";
import { checkImage, UnmountableError } from "./check.ts";
import { CHECK_LIMITS } from "./limits.ts";
import type { CheckFailure, CheckJob, CheckMessage } from "./messages.ts";

// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
const post = (message: CheckMessage): void => parentPort?.postMessage(message);

// The job comes from inspectImage in this directory, which started the thread.
const job = workerData as CheckJob;

const read = (offset: number, length: number): Uint8Array => {
  const buffer = Buffer.allocUnsafeSlow(length);
  for (let done = 0; done < length;) {
    const count = readSync(job.fd, buffer, done, length - done, offset + done);
    if (count === 0) throw new Ext4ReadError("MEDIUM", `the file ended before byte ${offset + length}`);
    done += count;
  }
  return buffer;
};

const hashFile = (): string => {
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafeSlow(CHECK_LIMITS.readBytes);
  let reported = 0;
  for (let at = 0; at < job.sizeBytes;) {
    const count = readSync(job.fd, buffer, 0, Math.min(buffer.length, job.sizeBytes - at), at);
    if (count === 0) throw new Ext4ReadError("MEDIUM", "the file became shorter while it was hashed");
    hash.update(buffer.subarray(0, count));
    at += count;
    if (at - reported >= CHECK_LIMITS.progressBytes) post({ type: "progress", done: (reported = at) });
  }
  return `sha256:${hash.digest("hex")}`;
};

const describe = (error: unknown): CheckFailure => {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof UnmountableError) return { kind: "image", message, hint: error.hint };
  if (!(error instanceof Ext4ReadError)) return { kind: "defect", message, hint: null };
  if (error.code === "LIMIT") return { kind: "too-large", message, hint: null };
  const isCut = error.code === "MEDIUM" ? "the file is cut off; copy it again" : null;
  return { kind: "image", message, hint: isCut };
};

try {
  const entries = checkImage({ sizeBytes: job.sizeBytes, read });
  post({ type: "checked", image: { digest: hashFile(), entries } });
} catch (error) {
  post({ type: "failed", failure: describe(error) });
}
