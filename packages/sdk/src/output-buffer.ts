import type { DataFrame } from "@kiln/protocol/streams";

export interface OutputChunk {
  readonly stream: "stdout" | "stderr";
  /** Of the first byte, counted from the command's start. */
  readonly offset: number;
  /** Bytes of this stream right before `offset` that were dropped and will not come. */
  readonly droppedBytes: number;
  readonly bytes: Uint8Array;
}

/** Output between the socket and its reader: every byte once, in order, in bounded memory. */
export class OutputBuffer {
  readonly #limitBytes: number;
  readonly #queue: OutputChunk[] = [];
  readonly #received = { stdout: 0, stderr: 0 };
  #queuedBytes = 0;
  #ended = false;
  #error: Error | null = null;
  #changed = Promise.withResolvers<void>();

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get isEmpty(): boolean {
    return this.#queue.length === 0;
  }

  /** The offset behind the last byte that arrived. */
  received(stream: "stdout" | "stderr"): number {
    return this.#received[stream];
  }

  /** Takes what is new in a frame; resolves when there is room for the next one, or the buffer has ended. */
  async push(frame: DataFrame): Promise<void> {
    if (frame.stream === "stdin" || this.#ended) return;
    const { stream } = frame;
    const known = this.#received[stream];
    const end = frame.offset + frame.bytes.length;
    if (end <= known) return;
    const skip = Math.max(0, known - frame.offset);
    const chunk = {
      stream,
      offset: frame.offset + skip,
      droppedBytes: Math.max(0, frame.offset - known),
      bytes: frame.bytes.subarray(skip),
    };
    this.#received[stream] = end;
    this.#queue.push(chunk);
    this.#queuedBytes += chunk.bytes.length;
    this.#wake();
    while (this.#queuedBytes > this.#limitBytes && !this.#ended) await this.#changed.promise;
  }

  /** What was pushed before is still delivered; then the reader ends, or fails with `error`. */
  end(error: Error | null = null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#wake();
  }

  /** The next chunk, null at the end. */
  async take(): Promise<OutputChunk | null> {
    for (;;) {
      const chunk = this.#queue.shift();
      if (chunk !== undefined) {
        this.#queuedBytes -= chunk.bytes.length;
        this.#wake();
        return chunk;
      }
      if (this.#error !== null) throw this.#error;
      if (this.#ended) return null;
      await this.#changed.promise;
    }
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}
