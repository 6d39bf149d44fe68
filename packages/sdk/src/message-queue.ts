/** Messages between a socket's events and one reader. */
export class MessageQueue implements AsyncIterable<string | Uint8Array> {
  readonly #waiting: (string | Uint8Array)[] = [];
  readonly #onDepth: (depth: number) => void;
  #ended = false;
  #wake: (() => void) | null = null;

  /** `onDepth` hears the number of waiting messages after each change: where a socket is paused and resumed. */
  constructor(onDepth: (depth: number) => void = () => undefined) {
    this.#onDepth = onDepth;
  }

  push(message: string | Uint8Array): void {
    this.#waiting.push(message);
    this.#onDepth(this.#waiting.length);
    this.#wake?.();
  }

  /** What was pushed before is still delivered. */
  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string | Uint8Array> {
    for (;;) {
      const message = this.#waiting.shift();
      if (message !== undefined) {
        this.#onDepth(this.#waiting.length);
        yield message;
      } else if (this.#ended) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = null;
      }
    }
  }
}
