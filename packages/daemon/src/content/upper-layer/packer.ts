import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import { type Digest, errnoOf, KilnError } from "@kiln/protocol";
import type { ContentShelf, ImageLayer } from "../../images/ports.ts";
import type { UpperLayers, WrittenDisk } from "../../images/promotion.port.ts";
import { PACK_LIMITS } from "./limits.ts";
import type { Packed, PackFailure, PackJob, PackMessage } from "./messages.ts";

type PackOptions = Parameters<UpperLayers["pack"]>[1];

/** Layers from writable disks, each by a thread of its own. */
export class UpperPacker implements UpperLayers {
  readonly #content: Pick<ContentShelf, "ingestUnnamed">;

  constructor(content: Pick<ContentShelf, "ingestUnnamed">) {
    this.#content = content;
  }

  async pack(disk: WrittenDisk, options: PackOptions): Promise<Omit<ImageLayer, "mediaType" | "format"> | null> {
    const { lease, signal } = options;
    signal.throwIfAborted();
    const written = await openIfThere(disk.path);
    if (written === null) return null; // it has never been started
    await using _written = written;
    await using rootfs = await open(disk.rootfs, constants.O_RDONLY | constants.O_NOFOLLOW);
    const job: PackJob = { disk: await describe(written), rootfs: await describe(rootfs) };
    await using thread = new PackThread(job, options);
    const chunks = thread.chunks(disk);
    const first = await chunks.next();
    if (first.done === true) return null;
    const { digest, size } = await this.#content.ingestUnnamed(joined(first.value, chunks), { lease, signal });
    return { digest, size, diffId: thread.diffId() };
  }
}

async function* joined(first: Uint8Array, rest: AsyncGenerator<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield first;
  yield* rest;
}

const openIfThere = async (path: string): Promise<FileHandle | null> => {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  }
};

const describe = async (file: FileHandle): Promise<PackJob["disk"]> => ({ fd: file.fd, sizeBytes: (await file.stat()).size });

/** A thread that packs, and what it has sent that nobody has taken yet. Disposed of, it has ended. */
class PackThread implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #options: PackOptions;
  readonly #ended: Promise<void>;
  readonly #messages: PackMessage[] = [];
  #wake: () => void = () => undefined;
  #crash: Error | null = null;
  #hasEnded = false;
  #packed: Packed | null = null;

  constructor(job: PackJob, options: PackOptions) {
    this.#options = options;
    this.#worker = new Worker(new URL("./worker.ts", import.meta.url), {
      name: "upper-layer",
      workerData: job,
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: PACK_LIMITS.heapMiB },
    });
    this.#worker.on("message", (message: PackMessage) => {
      this.#messages.push(message);
      this.#wake();
    });
    this.#worker.on("error", (error: Error) => {
      this.#crash = error;
    });
    this.#ended = new Promise((resolve) => {
      this.#worker.on("exit", () => {
        this.#hasEnded = true;
        this.#wake();
        resolve();
      });
    });
  }

  /** The packed bytes, to be read to their end. */
  async *chunks(disk: WrittenDisk): AsyncGenerator<Uint8Array> {
    const { signal, onProgress } = this.#options;
    const stop = (): void => this.#wake();
    signal.addEventListener("abort", stop, { once: true });
    try {
      for (;;) {
        signal.throwIfAborted();
        const message = this.#messages.shift();
        if (message?.type === "chunk") {
          onProgress(message.unpackedBytes);
          yield message.bytes;
          // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
          this.#worker.postMessage({ type: "credit" });
        } else if (message?.type === "packed") {
          this.#packed = message.packed;
          return;
        } else if (message?.type === "failed") throw toKilnError(message.failure, disk);
        else if (this.#hasEnded) throw this.#describeCrash(disk);
        else await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  /** Of all that was read. */
  diffId(): Digest {
    if (this.#packed === null) throw new KilnError("INTERNAL", "a layer was asked about before all of it was read");
    return this.#packed.diffId as Digest;
  }

  #describeCrash({ owner }: WrittenDisk): KilnError {
    const crash = this.#crash;
    if (crash !== null && "code" in crash && crash.code === "ERR_WORKER_OUT_OF_MEMORY")
      return new KilnError("ROOTFS_TOO_LARGE", `the disk of ${owner} has more files than ${PACK_LIMITS.heapMiB} MiB of memory hold`, {
        ...{ cause: crash, object: owner },
      });
    return new KilnError("INTERNAL", `the thread that packs the disk of ${owner} ended before its work`, { cause: crash, object: owner });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
    await this.#ended;
  }
}

const toKilnError = ({ kind, message }: PackFailure, { owner }: WrittenDisk): KilnError =>
  kind === "disk"
    ? new KilnError("LAYER_INVALID", `the disk of ${owner} cannot become a layer: ${message}`, {
        ...{ object: owner, hint: "what the guest left on its disk is damaged, or more than an image may have; look at it from inside" },
      })
    : new KilnError("INTERNAL", `packing the disk of ${owner} failed: ${message}`, { object: owner });
