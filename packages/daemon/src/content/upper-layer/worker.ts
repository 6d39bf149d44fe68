/** The thread that packs one layer: it starts with a PackJob, posts PackMessages as far as it has credit, and ends. */
import { createHash } from "node:crypto";
import { readSync } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { parentPort, workerData } from "node:worker_threads";
import { createGzip } from "node:zlib";
import { PACK_LIMITS } from "./limits.ts";
import type { PackJob, PackMessage } from "./messages.ts";
import { isDiskError, readUpper } from "./read-upper.ts";

// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
const post = (message: PackMessage): void => parentPort?.postMessage(message);

// The job comes from UpperPacker in this directory, which started the thread.
const job = workerData as PackJob;

/** How many chunks may still be sent. */
let credit: number = PACK_LIMITS.chunksAhead;
let wake: () => void = () => undefined;
parentPort?.on("message", () => {
  credit += 1;
  wake();
});

const readAt =
  (fd: number) =>
  (offset: number, length: number): Uint8Array => {
    const buffer = Buffer.allocUnsafeSlow(length);
    let done = 0;
    while (done < length) {
      const count = readSync(fd, buffer, done, length - done, offset + done);
      if (count === 0) break;
      done += count;
    }
    return buffer.subarray(0, done);
  };

const pack = async (): Promise<void> => {
  const hash = createHash("sha256");
  let unpackedBytes = 0;
  const { tar } = readUpper({
    disk: { sizeBytes: job.disk.sizeBytes, read: readAt(job.disk.fd) },
    rootfs: { sizeBytes: job.rootfs.sizeBytes, read: readAt(job.rootfs.fd) },
  });
  if (tar === null) return post({ type: "packed", packed: null });
  const hashed = function* (): Generator<Uint8Array> {
    for (const chunk of tar) {
      hash.update(chunk);
      unpackedBytes += chunk.length;
      yield chunk;
    }
  };
  await pipeline(
    Readable.from(hashed(), { objectMode: true, highWaterMark: 1 }),
    createGzip({ level: PACK_LIMITS.gzipLevel, chunkSize: PACK_LIMITS.chunkBytes }),
    async (packed: AsyncIterable<Uint8Array>) => {
      for await (const bytes of packed) {
        while (credit <= 0) await new Promise<void>((resolve) => (wake = resolve));
        credit -= 1;
        post({ type: "chunk", bytes, unpackedBytes });
      }
    },
  );
  post({ type: "packed", packed: { diffId: `sha256:${hash.digest("hex")}` } });
};

try {
  await pack();
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  post({ type: "failed", failure: { kind: isDiskError(error) ? "disk" : "defect", message } });
}
parentPort?.close();
