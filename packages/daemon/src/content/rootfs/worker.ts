/** The thread that builds one rootfs: it starts with a BuildJob, posts BuildMessages, and ends. */
import { parentPort, workerData } from "node:worker_threads";
import { build } from "./build.ts";
import { describeFailure } from "./failure.ts";
import type { BuildJob, BuildMessage } from "./messages.ts";

// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
const post = (message: BuildMessage): void => parentPort?.postMessage(message);

// The job comes from buildRootfs in this directory, which started the thread.
const job = workerData as BuildJob;

try {
  const rootfs = await build(job, {
    onProgress: (done, total) => post({ type: "progress", done, total }),
    onWritten: () => post({ type: "written" }),
  });
  post({ type: "built", rootfs });
} catch (error) {
  post({ type: "failed", failure: describeFailure(error) });
}
